"""SSH agents in a build: a step can list keys and sign with them, and nothing else, and finds no agent afterwards."""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import contextmanager

import pytest
from building import names

import pylxc

ADD, REMOVE_ALL, LIST, SIGN, EXTENSION = 17, 19, 11, 13, 27
FAILURE, ANSWER = 5, 12
# What runs in the step: sends messages of these types to the agent, and prints the types of its answers.
CLIENT = """
import os, socket, struct, sys
with socket.socket(socket.AF_UNIX) as agent:
    agent.connect(os.environ["SSH_AUTH_SOCK"])
    stream = agent.makefile("rwb")
    for kind in map(int, sys.argv[1:]):
        stream.write(struct.pack(">IB", 4001, kind) + b"x" * 4000)
        stream.flush()
        (size,) = struct.unpack(">I", stream.read(4))
        print(stream.read(size)[0], end=" ", flush=True)
"""


class Agent:
    """An agent that notes what it is asked, and by whom, and has the same answer for all."""

    def __init__(self, path):
        self.path = str(path)
        self.asked = []
        self.peers = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        os.chmod(self.path, 0o600)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                self.peers.add(struct.unpack("3i", credentials)[1])
                while head := stream.read(4):
                    message = stream.read(struct.unpack(">I", head)[0])
                    self.asked.append((message[0], len(message)))
                    stream.write(struct.pack(">IB", 100_001, ANSWER) + b"y" * 100_000)
                    stream.flush()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


@contextmanager
def agent_at(path):
    made = Agent(path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def agent(tmp_path):
    with agent_at(tmp_path / "agent.sock") as made:
        yield made


@pytest.fixture
def on_host(build):
    """Builds on the machine's own files, with a client of agents in the context."""
    build.write({"client.py": CLIENT})
    return build


def text(*kinds, mount="type=ssh", before=""):
    run = f"RUN --mount={mount} --mount=target=/ctx python3 -BS /ctx/client.py"
    return f"FROM host\n{before}{run} {' '.join(map(str, kinds))}"


def test_a_step_lists_keys_and_signs(on_host, agent):
    image = on_host(text(LIST, SIGN, LIST), ssh={"default": agent.path})
    assert on_host.output() == "12 12 12 "
    assert agent.asked == [(LIST, 4001), (SIGN, 4001), (LIST, 4001)]
    assert agent.peers == {os.geteuid()}, "an agent answers its own user only"
    assert names(image.layers[1]) == []
    assert on_host.engine.check().ok


def test_nothing_else_reaches_the_agent(on_host, agent):
    on_host(text(ADD, REMOVE_ALL, EXTENSION, 0, 255, LIST), ssh=[f"default={agent.path}"])
    assert on_host.output() == "5 5 5 5 5 12 "
    assert [kind for kind, _ in agent.asked] == [LIST]


def test_the_callers_own_agent_and_others_by_name(on_host, agent, tmp_path, monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", agent.path)
    for given in (True, "default", ["default"], {"default": None}):
        on_host(text(LIST), ssh=given, no_cache=True)
        assert on_host.output() == "12 "
    assert len(agent.asked) == 4
    with agent_at(tmp_path / "other.sock") as other:
        on_host(text(LIST, mount="type=ssh,id=other"), ssh=["default", f"other={other.path}"])
        assert len(other.asked) == 1
    assert len(agent.asked) == 4


def test_where_the_socket_is_and_whose(on_host, agent):
    mounts = "--mount=type=ssh --mount=type=ssh,id=b,mode=0640,uid=7,gid=9 --mount=type=ssh,id=c,target=sub/agent"
    on_host(
        f"FROM host\nWORKDIR /w\nRUN {mounts} echo $SSH_AUTH_SOCK; cd /run/buildkit && "
        "stat -c '%n %F %a %u %g' * /w/sub/agent",
        ssh=[f"{name}={agent.path}" for name in ("default", "b", "c")],
    )
    assert on_host.output().splitlines() == [
        "/run/buildkit/ssh_agent.0",
        "ssh_agent.0 socket 600 0 0",
        "ssh_agent.1 socket 640 7 9",
        "/w/sub/agent socket 600 0 0",
    ]


def test_a_user_reaches_only_what_is_its_own(on_host, agent):
    with pytest.raises(pylxc.BuildError) as caught:
        on_host(text(LIST, before="USER 7\n"), ssh=[f"default={agent.path}"])
    assert b"Permission" in caught.value.output
    on_host(text(LIST, before="USER 7\n", mount="type=ssh,uid=7"), ssh=[f"default={agent.path}"])
    assert on_host.output() == "12 "


def test_neither_the_image_nor_the_key_knows_of_it(on_host, agent, tmp_path):
    image = on_host(text(LIST), ssh=[f"default={agent.path}"])
    assert "SSH_AUTH_SOCK" not in repr(image.config) + repr(image.history())
    with agent_at(tmp_path / "second.sock") as second:
        on_host(text(LIST), ssh=[f"default={second.path}"])
        assert on_host.cached() == [2]
        assert second.asked == []
    assert not [path for path in on_host.engine.root.rglob("agent*") if path.is_socket()]


def test_a_variable_of_the_dockerfile_wins(on_host, agent):
    on_host(
        "FROM host\nENV SSH_AUTH_SOCK=/mine\nRUN --mount=type=ssh echo $SSH_AUTH_SOCK", ssh=[f"default={agent.path}"]
    )
    assert on_host.output() == "/mine\n"


def test_one_that_is_not_given(on_host):
    on_host('FROM host\nRUN --mount=type=ssh echo "[$SSH_AUTH_SOCK]"; ! ls /run/buildkit 2> /dev/null')
    assert on_host.output() == "[]\n"
    with pytest.raises(pylxc.BuildError, match=r"ssh x: it is required, and was not given.*--ssh x"):
        on_host("FROM host\nRUN --mount=type=ssh,id=x,required true")


def test_an_agent_that_is_gone(on_host, tmp_path):
    with agent_at(tmp_path / "gone.sock") as gone:
        path = gone.path
    with pytest.raises(pylxc.BuildError) as caught:
        on_host(text(LIST), ssh=[f"default={path}"])
    assert caught.value.exit_code == 1


def test_many_connections_at_once_and_one_that_stays(on_host, agent):
    """A step that keeps its connections open does not keep the build from ending."""
    on_host.write({"many.py": (
        "import os, socket, sys\n"
        "made = [socket.socket(socket.AF_UNIX) for _ in range(300)]\n"
        "for one in made: one.connect(os.environ['SSH_AUTH_SOCK'])\n"
        "made[0].sendall(b'\\xff\\xff\\xff\\xff')\n"
        "print(repr(made[0].recv(1)), end='')\n"
    )})  # fmt: skip
    on_host(text(mount="type=ssh").replace("client.py", "many.py"), ssh=[f"default={agent.path}"])
    assert on_host.output() == "b''"
    assert not [one for one in threading.enumerate() if one.name == "pylxc-ssh-agent"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("default", "SSH_AUTH_SOCK names no agent"),
        ("a=/nowhere/agent", "No such file or directory"),
        ("a=/etc/passwd", "is no socket: load the key into an agent"),
        (5, "give"),
        ([5], "give"),
    ],
)
def test_what_cannot_be_an_agent(build, given, reason, monkeypatch):
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(pylxc.SpecError, match=reason) as caught:
        build("FROM scratch", ssh=given)
    assert caught.value.option == "ssh"
