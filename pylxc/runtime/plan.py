"""Writes plans: the helper's instructions for one process, in the binary form of csrc/pylxc.h.

Invariant: the operations' codes, flags and layout come from the header through cffi; a failure's index leads back to
the words of the operation that failed.
"""

from __future__ import annotations

import struct
from enum import IntFlag

from pylxc._native import lib
from pylxc.errors import SpecError

_HEAD = struct.Struct("=IIIIQiiiiiIQ")
_OP = struct.Struct("=IHHQqq")
_HEALTH = struct.Struct("=5q")
_MAGIC = 0x70786C31
STRINGS_LIMIT = 65535
_INSTRUCTION_SIZE = 8
FIRST_FREE_FD = 5


class MountAttribute(IntFlag):
    """MOUNT_ATTR_* of mount_setattr(2)."""

    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    STRICTATIME = 0x20


class Plan:
    """The operations of one process, in order, and where its descriptors lie.

    ``add`` appends an operation; ``descriptor`` gives one of the caller's descriptors a number in the helper.
    """

    def __init__(self, *, flags: int = 0, clone_flags: int = 0) -> None:
        self.flags = flags
        self.clone_flags = clone_flags
        self.owner_fd = -1
        self.target_fd = -1
        self.directory_fd = -1
        self.userns_fd = -1
        self.log_files = 1
        self.log_size = 0  # no limit
        self.shares = False  # namespaces with another container
        self.extra_fds: list[int] = []
        self.argv: tuple[str, ...] = ()
        self._operations: list[bytes] = []
        self._subjects: list[str] = []

    def add(self, code: int, *strings: str | bytes, flags: int = 0, a: int = 0, b: int = 0, subject: str = "") -> None:
        """Append an operation. ``subject`` is what an error will name (by default the strings)."""
        parts = [s if isinstance(s, bytes) else s.encode("utf-8", "surrogateescape") for s in strings]
        if len(parts) > STRINGS_LIMIT:
            raise SpecError("command", f"{len(parts)} strings", f"the limit is {STRINGS_LIMIT}")
        body = b"\0".join([*parts, b""])
        if body.count(0) != len(parts):
            raise SpecError("command", strings, "a NUL byte cannot be passed to a program")
        body += bytes(-len(body) % 8)
        self._operations.append(_OP.pack(_OP.size + len(body), code, len(parts), flags, a, b) + body)
        self._subjects.append(subject or " ".join(map(str, strings[:4])))

    def add_filter(self, program: bytes) -> None:
        """Append a system call filter: an array of ``struct sock_filter``."""
        head = _OP.pack(_OP.size + len(program), SECCOMP, 0, 0, len(program) // _INSTRUCTION_SIZE, 0)
        self._operations.append(head + program)
        self._subjects.append("the system call filter (the kernel must know seccomp; see the option seccomp)")

    def add_health(self, numbers: tuple[int, int, int, int, int], check: Plan) -> None:
        """Append the checks of the process's health: ``numbers`` are those of ``struct pylxc_health``."""
        body = _HEALTH.pack(*numbers) + check.encode()
        self._operations.append(_OP.pack(_OP.size + len(body), HEALTH, 0, 0, 0, 0) + body)
        self._subjects.append("the health check")

    def add_endpoint(self, endpoint: bytes, subject: str, netns: int = 0, *, late: bool = False) -> None:
        """Append a link to a network: a ``struct pylxc_endpoint``. ``netns``: where its bridge is (0: on the host).

        ``late``: it only takes its place, and is told when the process has been begun.
        """
        flags = ENDPOINT_LATE if late else 0
        self._operations.append(_OP.pack(_OP.size + len(endpoint), ENDPOINT, 0, flags, netns, 0) + endpoint)
        self._subjects.append(subject)

    def add_port(self, port: bytes, idle: int, subject: str) -> None:
        """Append a published port: a ``struct pylxc_port``, and after how many ns a quiet flow of UDP is forgotten."""
        self._operations.append(_OP.pack(_OP.size + len(port), PUBLISH, 0, 0, idle, 0) + port)
        self._subjects.append(subject)

    def extend(self, other: Plan) -> None:
        """Append the operations of another plan: what never changes is encoded once."""
        self._operations += other._operations
        self._subjects += other._subjects

    def descriptor(self, fd: int) -> int:
        """Pass a descriptor of the caller's on; returns its number in the helper."""
        self.extra_fds.append(fd)
        return FIRST_FREE_FD + len(self.extra_fds) - 1

    def is_joining(self) -> bool:
        """Say whether the process enters the namespaces of another."""
        return bool(self.flags & PLAN_JOIN)

    def subject(self, index: int) -> str:
        """Return the words for the operation at an index (-1: the process as a whole)."""
        return self._subjects[index] if 0 <= index < len(self._subjects) else "the process"

    def encode(self) -> bytes:
        """Return the plan's bytes."""
        body = b"".join(self._operations)
        head = _HEAD.pack(
            _MAGIC,
            _HEAD.size + len(body),
            len(self._operations),
            self.flags,
            self.clone_flags,
            self.owner_fd,
            self.target_fd,
            self.directory_fd,
            self.userns_fd,
            -1,
            self.log_files,
            self.log_size,
        )
        return head + body


ID_MAP = lib.PYLXC_OP_ID_MAP
JOIN = lib.PYLXC_OP_JOIN
CGROUP = lib.PYLXC_OP_CGROUP
OVERLAY = lib.PYLXC_OP_OVERLAY
BIND_ROOT = lib.PYLXC_OP_BIND_ROOT
MEMORY = lib.PYLXC_OP_MEMORY
MOUNT = lib.PYLXC_OP_MOUNT
BIND = lib.PYLXC_OP_BIND
DEVICE = lib.PYLXC_OP_DEVICE
SYMLINK = lib.PYLXC_OP_SYMLINK
DIRECTORY = lib.PYLXC_OP_DIRECTORY
FILE = lib.PYLXC_OP_FILE
MASK = lib.PYLXC_OP_MASK
READ_ONLY = lib.PYLXC_OP_READ_ONLY
ROOT_READ_ONLY = lib.PYLXC_OP_ROOT_READ_ONLY
PIVOT = lib.PYLXC_OP_PIVOT
HOSTNAME = lib.PYLXC_OP_HOSTNAME
LOOPBACK = lib.PYLXC_OP_LOOPBACK
ENDPOINT = lib.PYLXC_OP_ENDPOINT
SYSCTL = lib.PYLXC_OP_SYSCTL
LIFE = lib.PYLXC_OP_LIFE
HEALTH = lib.PYLXC_OP_HEALTH
PUBLISH = lib.PYLXC_OP_PUBLISH
RLIMIT = lib.PYLXC_OP_RLIMIT
UMASK = lib.PYLXC_OP_UMASK
USER = lib.PYLXC_OP_USER
CAPABILITIES = lib.PYLXC_OP_CAPABILITIES
NO_NEW_PRIVILEGES = lib.PYLXC_OP_NO_NEW_PRIVILEGES
SECCOMP = lib.PYLXC_OP_SECCOMP
TERMINAL = lib.PYLXC_OP_TERMINAL
WORKDIR = lib.PYLXC_OP_WORKDIR
UNPACK = lib.PYLXC_OP_UNPACK
PACK = lib.PYLXC_OP_PACK
MIRROR = lib.PYLXC_OP_MIRROR
COPY_FROM = lib.PYLXC_OP_COPY_FROM
COPY_TO = lib.PYLXC_OP_COPY_TO
PAUSE = lib.PYLXC_OP_PAUSE
NETWORK = lib.PYLXC_OP_NETWORK
STACK = lib.PYLXC_OP_STACK
OPEN = lib.PYLXC_OP_OPEN
SHOW = lib.PYLXC_OP_SHOW
ENV = lib.PYLXC_OP_ENV
EXEC = lib.PYLXC_OP_EXEC

OVERLAY_VOLATILE = lib.PYLXC_OVERLAY_VOLATILE
OVERLAY_INSIDE = lib.PYLXC_OVERLAY_INSIDE
OVERLAY_IN_MEMORY = lib.PYLXC_OVERLAY_IN_MEMORY
OVERLAY_ASIDE = lib.PYLXC_OVERLAY_ASIDE
OVERLAY_JOINED = lib.PYLXC_OVERLAY_JOINED
OVERLAY_ALONE = lib.PYLXC_OVERLAY_ALONE
CGROUP_V2_FIRST = lib.PYLXC_CGROUP_V2_FIRST
CGROUP_KEEP = lib.PYLXC_CGROUP_KEEP
CGROUP_FOLLOW = lib.PYLXC_CGROUP_FOLLOW
FILE_ATTRIBUTES = lib.PYLXC_FILE_ATTRIBUTES
DEVICE_COPY = lib.PYLXC_DEVICE_COPY
TERMINAL_CONSOLE = lib.PYLXC_TERMINAL_CONSOLE
ENDPOINT_LATE = lib.PYLXC_ENDPOINT_LATE
NETWORK_SHARED = lib.PYLXC_NETWORK_SHARED
RESTART_ON_FAILURE = lib.PYLXC_RESTART_ON_FAILURE
RESTART_ALWAYS = lib.PYLXC_RESTART_ALWAYS
MAKE_DIRECTORY = lib.PYLXC_MAKE_DIRECTORY
MAKE_LIKE_SOURCE = lib.PYLXC_MAKE_LIKE_SOURCE
MAKE_PLAIN = lib.PYLXC_MAKE_PLAIN
BIND_RECURSIVE = lib.PYLXC_BIND_RECURSIVE
BIND_OPTIONAL = lib.PYLXC_BIND_OPTIONAL
BIND_OWNER = lib.PYLXC_BIND_OWNER
BIND_MAPPED = lib.PYLXC_BIND_MAPPED
BIND_SLAVE = lib.PYLXC_BIND_SLAVE
BIND_SHARED = lib.PYLXC_BIND_SHARED
UNPACK_LAYER = lib.PYLXC_UNPACK_LAYER
UNPACK_OWNER_ROOT = lib.PYLXC_UNPACK_OWNER_ROOT
UNPACK_CREATE = lib.PYLXC_UNPACK_CREATE
UNPACK_KEEP_DIRECTORIES = lib.PYLXC_UNPACK_KEEP_DIRECTORIES
UNPACK_KEEP_TOP = lib.PYLXC_UNPACK_KEEP_TOP
UNPACK_REPLACE = lib.PYLXC_UNPACK_REPLACE
UNPACK_NO_DEVICES = lib.PYLXC_UNPACK_NO_DEVICES
UNPACK_BENEATH = lib.PYLXC_UNPACK_BENEATH
UNPACK_OWNER_SELF = lib.PYLXC_UNPACK_OWNER_SELF
UNPACK_PLAIN = lib.PYLXC_UNPACK_PLAIN
UNPACK_CONTENTS = lib.PYLXC_UNPACK_CONTENTS
UNPACK_SYNC = lib.PYLXC_UNPACK_SYNC
PACK_LAYER = lib.PYLXC_PACK_LAYER
PACK_LIVE = lib.PYLXC_PACK_LIVE
PACK_FOLLOW = lib.PYLXC_PACK_FOLLOW
PACK_NOTHING = lib.PYLXC_PACK_NOTHING
PACK_SETTLE = lib.PYLXC_PACK_SETTLE
PACK_ADOPT = lib.PYLXC_PACK_ADOPT
PLAN_INIT = lib.PYLXC_PLAN_INIT
PLAN_SYSTEM = lib.PYLXC_PLAN_SYSTEM
PLAN_JOIN = lib.PYLXC_PLAN_JOIN
PLAN_STDIN = lib.PYLXC_PLAN_STDIN
PLAN_LOG = lib.PYLXC_PLAN_LOG
PLAN_RECORD_LATE = lib.PYLXC_PLAN_RECORD_LATE
PLAN_EPHEMERAL = lib.PYLXC_PLAN_EPHEMERAL
PLAN_KEEP_WORK = lib.PYLXC_PLAN_KEEP_WORK
PLAN_UNPRIVILEGED = lib.PYLXC_PLAN_UNPRIVILEGED
PLAN_HOLD = lib.PYLXC_PLAN_HOLD
PLAN_PAUSE = lib.PYLXC_PLAN_PAUSE
PLAN_KEEP = lib.PYLXC_PLAN_KEEP
PLAN_STACK = lib.PYLXC_PLAN_STACK
PLAN_AWAIT_CALLER = lib.PYLXC_PLAN_AWAIT_CALLER
