"""Attack class 19: published ports. What serves them is as weak as can be, and reaches the container only.

Whoever talks to a published port talks to a process of pylxc's (csrc/helper/proxy.c). What is asserted here is what is
left to somebody who has made it his own, and that neither side can make it grow, hang or end.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import signal
import socket
import struct
from contextlib import contextmanager
from pathlib import Path

import pytest
from boxes import await_true, is_alive
from encoded import Encoded
from modes import IS_ROOT

import pylxc
from pylxc.runtime import native, ports
from pylxc.runtime import plan as p
from tests.published import command, dial, open_files, proxy, rest

ECHO = ("nc", "-ll", "-p", "80", "-e", "cat")
FILTERED = "2"


# By machine: the number of the register of the system call, of its operands, of the program counter, of the result; the
# length of the instruction. Of struct user_regs_struct (sys/user.h) and user_pt_regs (asm/ptrace.h), in words.
REGISTERS = {
    "x86_64": (10, (14, 13, 12), 16, 10, 2),
    "aarch64": (8, (0, 1, 2), 32, 0, 4),
}
# What somebody would want who has made it his own: the numbers on each machine, and operands that do no harm.
CALLS = {
    "openat": ({"x86_64": 257, "aarch64": 56}, -100, 0, 0),
    "execve": ({"x86_64": 59, "aarch64": 221}, 0, 0, 0),
    "ptrace": ({"x86_64": 101, "aarch64": 117}, 16, 0, 0),
    "setns": ({"x86_64": 308, "aarch64": 268}, -1, 0, 0),
    "bind": ({"x86_64": 49, "aarch64": 200}, -1, 0, 0),
    "a socket of another family": ({"x86_64": 41, "aarch64": 198}, 1, 1, 0),
    "another question to a device": ({"x86_64": 16, "aarch64": 29}, -1, 0x8914, 0),
}
ORIGINAL, WALL = 15, 0x40000000  # orig_rax; __WALL of waitpid(2)
PTRACE_ATTACH, PTRACE_DETACH, PTRACE_GETREGSET, PTRACE_SETREGSET = 16, 17, 0x4204, 0x4205
PTRACE_SINGLESTEP, NT_PRSTATUS = 9, 1
WORDS = 40  # more than either machine has


def taken_over(server: int, numbers: dict[str, int], *operands: int) -> int | None:
    """Let a process make a system call, as somebody does who runs his code in it; None: it was its end.

    It waits for events, and so stands behind the instruction of a system call, to which it is sent back.
    """
    number_at, operands_at, counter_at, result_at, length = REGISTERS[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    words = (ctypes.c_uint64 * WORDS)()
    parts = (ctypes.c_uint64 * 2)(ctypes.addressof(words), ctypes.sizeof(words))

    def trace(request: int, about: int = 0, data: object = None) -> None:
        if libc.ptrace(request, server, about, data) < 0:
            raise OSError(ctypes.get_errno(), f"ptrace {request}")

    trace(PTRACE_ATTACH)
    os.waitpid(server, WALL)
    trace(PTRACE_GETREGSET, NT_PRSTATUS, ctypes.addressof(parts))
    before = bytes(words)
    words[counter_at] -= length
    words[number_at] = numbers[os.uname().machine]
    if os.uname().machine == "x86_64":
        words[ORIGINAL] = 2**64 - 1  # it is in no system call that would have to be taken up again
    for at, operand in zip(operands_at, operands, strict=True):
        words[at] = operand % 2**64
    trace(PTRACE_SETREGSET, NT_PRSTATUS, ctypes.addressof(parts))
    trace(PTRACE_SINGLESTEP)
    _, status = os.waitpid(server, WALL)
    if not os.WIFSTOPPED(status):
        assert os.WTERMSIG(status) == signal.SIGSYS
        return None
    trace(PTRACE_GETREGSET, NT_PRSTATUS, ctypes.addressof(parts))
    result = int(words[result_at])
    ctypes.memmove(words, before, len(before))
    words[result_at] = 2**64 - errno.EINTR  # of its wait: it waits again
    if os.uname().machine == "x86_64":
        words[ORIGINAL] = 2**64 - 1
    trace(PTRACE_SETREGSET, NT_PRSTATUS, ctypes.addressof(parts))
    trace(PTRACE_DETACH)
    return result


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@contextmanager
def serving(cage, **options):
    """Yield a container with an echo on port 80, and the pid of what serves it."""
    with cage.start(*ECHO, ports={80: ("127.0.0.1", 0)}, **options) as container:
        server = proxy(container)
        await_true(lambda: echo(container) == b"hello", "the echo")
        yield container, server


def echo(container) -> bytes:
    try:
        with socket.create_connection(container.address(80), 20) as connection:
            connection.sendall(b"hello")
            return connection.recv(5)
    except OSError:
        return b""


def capabilities(server: int) -> set[str]:
    status = status_of(server)
    return {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}


def test_it_has_no_capability_and_few_system_calls(cage):
    with serving(cage) as (container, server):
        status = status_of(server)
        assert capabilities(server) == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", FILTERED)
        if cage.mode != "host":
            assert status["Uid"].split()[0] == str(os.stat(f"/proc/{container.status().pid}").st_uid)
        assert IS_ROOT is False or status["Uid"].split() != ["0"] * 4


def test_it_bites_without_the_loss_of_capabilities(cage, weaken):
    with weaken("PROXY_CAPABILITIES"), serving(cage) as (_, server):
        # Nobody on the host lost them with its id already; the root of a user namespace has all of them in it.
        assert (capabilities(server) != {"0" * 16}) == (cage.mode != "host")


def test_it_bites_without_the_filter(cage, weaken):
    with weaken("PROXY_FILTER"), serving(cage) as (_, server):
        assert status_of(server)["Seccomp"] != FILTERED


def kinds(server: int) -> set[str]:
    return {link.partition(":[")[0] for link in open_files(server)}


@pytest.mark.root
def test_it_holds_nothing_of_the_hosts(cage):
    """No directory of the store, no log, no socket on which the monitor is asked: sockets of IP, pipes, its epoll."""
    with serving(cage) as (_, server):
        assert kinds(server) <= {"socket", "pipe", "anon_inode"}
        unix = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
        assert not {f"socket:[{inode}]" for inode in unix} & set(open_files(server))


@pytest.mark.root
def test_it_bites_without_the_close_of_descriptors(cage, weaken):
    with weaken("PROXY_DESCRIPTORS"), serving(cage) as (_, server):
        assert any(kind.startswith("/") for kind in kinds(server))


def test_it_is_in_the_containers_network_and_user_namespace(cage):
    with serving(cage) as (container, server):
        for name in ("net", "user"):
            place = os.readlink(f"/proc/{container.status().pid}/ns/{name}") if IS_ROOT else None
            assert place is None or os.readlink(f"/proc/{server}/ns/{name}") == place


@pytest.mark.root
@pytest.mark.parametrize("name", CALLS)
def test_any_other_system_call_ends_it(cage, name):
    with serving(cage) as (container, server):
        taken_over(server, *CALLS[name])
        await_true(lambda: not is_alive(server), "its end")
        await_true(lambda: echo(container) == b"hello", "another one")


@pytest.mark.root
@pytest.mark.parametrize("name", CALLS)
def test_it_bites_without_the_filter_on_a_call(cage, name, weaken):
    with weaken("PROXY_FILTER"), serving(cage) as (container, server):
        assert taken_over(server, *CALLS[name]) is not None
        assert echo(container) == b"hello"
        assert proxy(container) == server


def test_the_container_does_not_see_it(cage):
    with serving(cage) as (container, _):
        names = container.exec(["sh", "-c", "cat /proc/[0-9]*/comm 2>&-; true"]).text.split()
        assert "pylxc-ports" not in names
        assert names[0] == "nc"


@pytest.mark.root
def test_floods_of_connections_leave_it_as_it_was(cage):
    with cage.start(*command(), image="host", ports={8000: ("127.0.0.1", 0)}) as container:
        container.wait_ready(port=8000, timeout=30)
        server = proxy(container)
        address, before = container.address(8000), len(os.listdir(f"/proc/{server}/fd"))
        chance = random.Random(5)
        for _ in range(1500):
            connection = socket.create_connection(address, 20)
            if chance.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if chance.random() < 0.5:
                connection.send(chance.randbytes(chance.randint(1, 3000)))
            connection.close()
        await_true(lambda: len(os.listdir(f"/proc/{server}/fd")) <= before + 2 * 64, "the end of all of them")
        with dial(container, words="peer") as connection:
            assert rest(connection) == b"127.0.0.1"
        assert proxy(container) == server


# -- plans that lie ----------------------------------------------------------------------------------------------------


def stage(plan: p.Plan) -> str:
    """Return the stage at which a plan fails; "" when its program ran."""
    try:
        child = native.spawn(Encoded(plan.encode()), (-1, -1, -1))
    except pylxc.SpawnError as error:
        return error.stage
    native.await_end(child.monitor_fd)
    child.close()
    return ""


FIELDS = {"family": 4, "protocol": 6, "first": 0, "last": 0, "earlier": 0, "container": 80}


def with_port(*, size: int = 0, idle: int = 1, **fields: int) -> p.Plan:
    """Return a plan with a port of the loopback; ``size``: so much longer than it should be."""
    body = ports._PORT.pack(b"\x7f\0\0\1", *{**FIELDS, **fields}.values())
    plan = p.Plan()
    plan.add_port(body[: len(body) + size] + bytes(max(0, size)), idle, "port")
    plan.add(p.EXEC, "/bin/true")
    return plan


def test_a_sound_port_is_taken():
    assert stage(with_port()) == ""
    assert stage(with_port(protocol=17, idle=2**62)) == ""


@pytest.mark.parametrize(
    "lie",
    [
        *({"size": size} for size in (-40, -8, 8)),
        *({"family": family} for family in (-1, 1, 2, 10, 2**31 - 1)),
        *({"protocol": protocol} for protocol in (0, -6, 1, 132)),
        *({"first": first, "last": last} for first, last in ((-1, 0), (5, 4), (0, 65536), (65536, 65537), (2, -1))),
        *({"container": port} for port in (0, -1, 65536)),
        *({"earlier": port} for port in (-1, 65536)),
        *({"idle": idle} for idle in (0, -1)),
    ],
    ids=str,
)
def test_ports_that_are_none(lie):
    assert stage(with_port(**lie)) == "plan"


def test_a_health_check_publishes_nothing():
    inner = p.Plan(flags=p.PLAN_JOIN)
    inner.extend(with_port())
    plan = p.Plan()
    plan.add_health((10**9, 10**9, 0, 10**9, 3), inner)
    plan.add(p.EXEC, "/bin/true")
    assert stage(plan) == "plan"
