"""Tells a container's monitor, in the plan, what to do once the main process runs, and when it has ended.

Hides the words of the LIFE operation (csrc/pylxc.h). Invariant: whatever the options say, the monitor needs nothing
else to carry it out: no Python process need be there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pylxc.identity import boot_id
from pylxc.runtime import plan as p
from pylxc.runtime.plan import Plan

if TYPE_CHECKING:
    from pylxc.spec import ContainerSpec

_POLICIES = {
    "no": 0,
    "on-failure": p.RESTART_ON_FAILURE,
    "always": p.RESTART_ALWAYS,
    "unless-stopped": p.RESTART_ALWAYS,  # differs only in what a daemon does when it starts, and there is none
}
_ANY_NUMBER = -1


def life_of(spec: ContainerSpec, id: str, log: str) -> Plan:  # noqa: A002  docker's name
    """Return the operations that say what the monitor does of its own accord. ``log``: the event log's directory."""
    plan = Plan()
    policy, _, most = (spec.restart or "no").partition(":")
    restarts = int(most or 0) or _ANY_NUMBER  # docker's rule: 0 = no limit
    plan.add(p.LIFE, boot_id(), log, f'"id":"{id}"', flags=_POLICIES[policy], a=restarts)
    return plan
