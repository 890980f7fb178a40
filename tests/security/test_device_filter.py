"""The device filter, in both of its forms: where a file system is not ``nodev``, it is what keeps a device shut."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

import pylxc
from pylxc.runtime import cgroup, devicefilter, mounting, native
from pylxc.runtime.devicefilter import Rule, compile_rules, lines, rules_for
from pylxc.spec import ContainerSpec

pytestmark = pytest.mark.root

MAKE_AND_OPEN = "mknod /t/node $NODE && exec 3</t/node && echo opened"


def a_block_device() -> tuple[str, int, int]:
    """Return the name and numbers of a block device that this machine has."""
    for entry in sorted(os.scandir("/dev"), key=lambda entry: entry.name):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISBLK(status.st_mode):
            return entry.path, os.major(status.st_rdev), os.minor(status.st_rdev)
    raise AssertionError("this machine has no block device to try it with")


BLOCK = a_block_device()
NODES = (f"b {BLOCK[1]} {BLOCK[2]}", "c 10 229")  # a disk; fuse


HERE = cgroup.hierarchies()
VERSIONS = [*(["v1"] if "devices" in HERE.v1 else []), *(["v2"] if HERE.v2 else [])]


@pytest.fixture(params=VERSIONS)
def version(request, monkeypatch):
    """Both forms, on a machine that has both: without a v1 controller for devices, the filter is eBPF."""
    if request.param == "v2":
        without = {name: place for name, place in HERE.v1.items() if name != "devices"}
        monkeypatch.setattr(cgroup, "hierarchies", lambda: attrs.evolve(HERE, v1=without))
    return request.param


@pytest.fixture
def nodes_open(monkeypatch):
    """Mounts of the caller's without ``nodev``: the wall that stands before the filter is down."""
    attributes = mounting._attributes
    monkeypatch.setattr(mounting, "_attributes", lambda mount: attributes(mount) & ~mounting.Attr.NODEV)


OPTIONS = {"userns": "host", "tmpfs": ["/t"]}


def try_node(box, node: str, **options) -> pylxc.Result:
    return box.sh(MAKE_AND_OPEN, env={"NODE": node}, check=False, **OPTIONS, **options)


@pytest.mark.parametrize("node", NODES)
def test_a_device_that_was_not_given_is_refused(box, version, nodes_open, node):
    result = try_node(box, node)
    assert not result.ok
    assert b"Operation not permitted" in result.stderr, result.stderr


def test_it_is_the_filter_that_refuses(box, nodes_open, monkeypatch):
    """Without it the very same nodes open."""
    monkeypatch.setattr(cgroup, "filter_devices", lambda *_: None)
    for node in NODES:
        assert try_node(box, node).text == "opened\n"


@pytest.mark.parametrize("options", [{"privileged": True}, {"devices": [BLOCK[0]]}])
def test_what_is_given_opens(box, version, nodes_open, options):
    """A device of ``devices=`` opens through any node, and a privileged container has no filter."""
    options = {**OPTIONS, **options}
    result = box.sh("mknod /t/node $NODE && head -c 0 /t/node", env={"NODE": NODES[0]}, check=False, **options)
    assert result.ok, result.stderr


def test_a_device_given_in_part(box, version):
    """``:r`` reads and does not write, also in a user namespace of its own and through the node that pylxc made."""
    path = Path("/dev/pylxc-part")
    os.mknod(path, 0o60666, os.makedev(*BLOCK[1:]))
    path.chmod(0o666)
    script = "(exec 3</dev/given) && echo read; (exec 3>/dev/given) && echo written; true"
    try:
        for options in ({}, {"userns": "host"}):
            part = box.sh(script, devices=[f"{path}:/dev/given:r"], **options)
            assert (part.text, b"Operation not permitted" in part.stderr) == ("read\n", True), part
            assert box.sh(script, devices=[f"{path}:/dev/given"], **options).text == "read\nwritten\n"
    finally:
        path.unlink()


def test_the_standard_devices_work(box, version):
    script = """
    set -e
    echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; head -c 3 /dev/random | wc -c
    (echo x > /dev/full) 2>&1 | grep -o 'No space.*'
    exec 3<>/dev/ptmx; ls /dev/pts
    """
    for options in ({"userns": "host"}, {"memory": "64m"}):
        assert box.sh(script, **options).text == "3\n3\n3\nNo space left on device\n0\nptmx\n"


def test_in_an_exec_as_well(box, version, nodes_open):
    with box.start("sleep", "100", **OPTIONS) as container:
        made = container.exec(["sh", "-c", MAKE_AND_OPEN], env={"NODE": NODES[0]}, check=False)
        assert b"Operation not permitted" in made.stderr


def test_nodes_of_any_kind_can_be_made(box, version):
    script = "mknod /b b 7 0 && mknod /c c 1 1 && mknod /p p && ls /b /c /p"
    assert box.sh(script, userns="host").text == "/b\n/c\n/p\n"


def test_whom_it_is_for(box, monkeypatch):
    """All that have cgroups, and all with the host's ids; a plain run with ids of its own has neither."""
    seen = []
    monkeypatch.setattr(cgroup, "filter_devices", lambda spec, _: seen.append(spec.command))
    box.run("true")
    assert seen == []
    box.run("true", memory="64m")
    box.run("true", userns="host")
    box.start("true").remove(force=True)
    assert len(seen) == 3
    assert rules_for(ContainerSpec(image="x", privileged=True)) == ()


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EINVAL])
def test_where_it_may_not_be_set(box, monkeypatch, number):
    """As in a container of containers: no filter and no failure; but a promise that cannot be kept is not made."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cgroup, "hierarchies", lambda: attrs.evolve(HERE, v1={}))
    monkeypatch.setattr(native, "attach_device_filter", refuse)
    assert box.run("true", userns="host").ok
    with pytest.raises(pylxc.UnsupportedError, match="permissions of devices"):
        box.run("true", devices=["/dev/kmsg:/dev/kmsg:r"])


def test_the_lines_of_v1():
    spec = ContainerSpec(image="x", devices=["/dev/null:/dev/n:rw"])
    assert lines(rules_for(spec)) == [
        *("c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm"),
        *("c 5:2 rwm", "c 136:* rwm", "c 1:3 rw"),
    ]


def decide(program: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """Run a program as the kernel would: the few instructions that filters are made of."""
    context = [access << 16 | kind, major, minor]
    registers = [0] * 11
    at = 0
    while True:
        code, both, offset, constant = devicefilter._INSTRUCTION.unpack_from(program, 8 * at)
        to, source = both & 15, both >> 4
        at += 1
        if code == devicefilter.EXIT:
            return registers[0]
        if code == devicefilter.LOAD_WORD:
            registers[to] = context[offset // 4]
        elif code == devicefilter.MOVE:
            registers[to] = constant
        elif code == devicefilter.MOVE_REGISTER:
            registers[to] = registers[source]
        elif code == devicefilter.AND:
            registers[to] &= constant
        elif code == devicefilter.SHIFT_RIGHT:
            registers[to] >>= constant
        elif code == devicefilter.UNEQUAL:
            at += offset if registers[to] != constant else 0
        else:
            raise AssertionError(code)


BLOCK_KIND, CHAR_KIND, MKNOD, READ, WRITE = 1, 2, 1, 2, 4


@pytest.mark.parametrize(
    ("request_", "allowed"),
    [
        ((CHAR_KIND, MKNOD, 9, 9), 1),
        ((BLOCK_KIND, MKNOD, 9, 9), 1),
        ((CHAR_KIND, READ, 9, 9), 0),
        ((BLOCK_KIND, READ | WRITE, 1, 3), 0),  # the numbers of /dev/null, as a block device
        ((CHAR_KIND, READ | WRITE, 1, 3), 1),
        ((CHAR_KIND, READ | WRITE, 1, 4), 0),
        ((CHAR_KIND, READ, 136, 1048575), 1),
        ((CHAR_KIND, READ, 8, 1), 1),
        ((CHAR_KIND, WRITE, 8, 1), 0),
        ((CHAR_KIND, READ | WRITE, 8, 1), 0),
    ],
)
def test_what_the_program_decides(request_, allowed):
    rules = (*rules_for(ContainerSpec(image="x")), Rule("c", 8, 1, "r"))
    assert decide(compile_rules(rules), *request_) == allowed


@contextmanager
def a_cgroup():
    place = f"{cgroup.parse_mounts(Path('/proc/self/mountinfo').read_text()).v2}/pylxc-test-{os.getpid()}"
    os.mkdir(place)
    try:
        yield place
    finally:
        native.remove_cgroup(place)


def test_the_kernel_takes_long_programs_and_refuses_what_is_none():
    with a_cgroup() as place:
        native.attach_device_filter(place, compile_rules([Rule("b", 8, minor, "rwm") for minor in range(300)]))
        with pytest.raises(OSError, match="bpf"):
            native.attach_device_filter(place, b"\0" * 8)
    with pytest.raises(FileNotFoundError):
        native.attach_device_filter(place, compile_rules([]))
