"""Capabilities: their names, their numbers, and which of them a container keeps.

Invariant: a capability is named without ``CAP_``, in capitals, and its place in :data:`CAPABILITIES` is its number.

Source: capabilities(7), include/uapi/linux/capability.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

CAPABILITIES: tuple[str, ...] = tuple(
    """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE""".split()  # noqa: SIM905  a list of 41 lines otherwise
)
DEFAULT_CAPABILITIES: frozenset[str] = frozenset(
    """CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
    AUDIT_WRITE""".split()  # noqa: SIM905
)
ALL = "ALL"


def capability_names(values: Iterable[str], option: str) -> tuple[str, ...]:
    """Return the names without ``CAP_``, in capitals, each once, in the order given. ``ALL`` stands for all.

    Raises SpecError: no such capability.
    """
    names: dict[str, None] = {}
    for value in values:
        name = str(value).strip().upper().removeprefix("CAP_")
        if name != ALL and name not in CAPABILITIES:
            import difflib  # noqa: PLC0415  only where there is a mistake to explain

            near = difflib.get_close_matches(name, CAPABILITIES, 1)
            hint = f"did you mean {near[0]!r}?" if near else 'see capabilities(7) for the names, or give "ALL"'
            raise SpecError(option, value, f"there is no such capability; {hint}")
        names[name] = None
    return tuple(names)


def effective_capabilities(add: Iterable[str], drop: Iterable[str], *, privileged: bool) -> frozenset[str]:
    """Return what a container keeps, from normalised names.

    As in docker: what is added by name stays even where ``drop`` says ``ALL``; with ``ALL`` added, ``drop`` takes away.
    """
    added, dropped = frozenset(add), frozenset(drop)
    everything = frozenset(CAPABILITIES)
    if privileged:
        return everything
    if ALL in added:
        return everything - dropped
    if ALL in dropped:
        return added
    return (DEFAULT_CAPABILITIES - dropped) | added


def capability_mask(names: Iterable[str]) -> int:
    """Return the set as the kernel holds it: bit n is capability n."""
    mask = 0
    for name in names:
        mask |= 1 << CAPABILITIES.index(name)
    return mask
