"""Secrets of a build: seen by the step that asks for them, and by no layer, key, history, error or file."""

from __future__ import annotations

import os
import pickle
import re
import stat
from pathlib import Path

import pytest
from building import members, names

import pylxc
from pylxc.build.secrets import LARGEST, Secrets

CANARY = "canary-7f3a91c2"
MOUNT = "RUN --mount=type=secret,id=token"


def files_with(root, needle):
    """Return the files of a store that hold some bytes, the index and its journal included."""
    found = []
    for directory, _, files in os.walk(root):
        for name in files:
            path = Path(directory, name)
            if stat.S_ISREG(path.lstat().st_mode) and needle in path.read_bytes():
                found.append(str(path.relative_to(root)))
    return found


# -- what the step sees


def test_a_file_of_its_own_in_memory_that_only_root_reads(on_busybox):
    on_busybox(
        f"FROM busybox\n{MOUNT} cat /run/secrets/token && stat -c '%a %u %g' /run/secrets/token && "
        "grep /run/secrets/token /proc/self/mountinfo",
        secrets={"token": CANARY.encode()},
    )
    first, _, mounts = on_busybox.output().partition(" 0 0\n")
    assert first == f"{CANARY}400"
    (line,) = mounts.splitlines()
    assert " - tmpfs " in line
    assert " ro,nosuid,nodev," in line


def test_with_a_target_an_owner_and_a_mode(on_busybox):
    on_busybox(
        "FROM busybox\nWORKDIR /work\n"
        "RUN --mount=type=secret,id=token,target=sub/t,uid=7,gid=9,mode=0640 stat -c '%n %a %u %g' /work/sub/t\n"
        "RUN --mount=type=secret,target=/etc/token cat /etc/token\n"
        "RUN --mount=type=secret,source=token,mode=0444 cat /run/secrets/token",
        secrets={"token": b"t\n"},
    )
    assert on_busybox.output() == "/work/sub/t 640 7 9\nt\nt\n"


def test_another_user_reads_it_only_where_it_may(on_busybox):
    text = "FROM busybox\nUSER nobody\nRUN --mount=type=secret,id=token{} cat /run/secrets/token"
    with pytest.raises(pylxc.BuildError) as caught:
        on_busybox(text.format(""), secrets={"token": CANARY.encode()})
    assert b"Permission denied" in caught.value.output
    on_busybox(text.format(",uid=65534"), secrets={"token": CANARY.encode()})
    assert on_busybox.output() == CANARY


def test_nobody_writes_to_it(on_busybox):
    on_busybox(f"FROM busybox\n{MOUNT},mode=0666 ! echo x 2> /dev/null > /run/secrets/token", secrets={"token": b"t"})


@pytest.mark.parametrize("content", [b"", b"\0", b"a\0b\0\0", bytes(range(256)) * 64, b"\0" * 60_000, b"x" * LARGEST])
def test_any_bytes(on_busybox, content):
    on_busybox(
        f"FROM busybox\n{MOUNT} wc -c < /run/secrets/token; sha256sum /run/secrets/token", secrets={"token": content}
    )
    import hashlib

    size, digest = on_busybox.output().split()[:2]
    assert (int(size), digest) == (len(content), hashlib.sha256(content).hexdigest())


def test_as_a_variable_of_that_step_only(on_busybox):
    image = on_busybox(
        "FROM busybox\nENV TOKEN=from-env\n"
        "RUN --mount=type=secret,id=token,env=TOKEN echo $TOKEN; ls -A /run 2> /dev/null; true\n"
        "RUN --mount=type=secret,id=token,env=OTHER,target=/t echo $OTHER $TOKEN && cat /t\n"
        "RUN echo $TOKEN $OTHER",
        secrets={"token": b"secret"},
    )
    assert on_busybox.output() == "secret\nsecret from-env\nsecretfrom-env\n"
    assert dict(image.config.env) == {"TOKEN": "from-env"}


def test_many_at_once(on_busybox):
    mounts = " ".join(f"--mount=type=secret,id=s{n}" for n in range(40))
    on_busybox(f"FROM busybox\nRUN {mounts} cat /run/secrets/* | wc -c", secrets={f"s{n}": b"1234" for n in range(40)})
    assert on_busybox.output() == "160\n"


# -- where they come from


def test_from_a_file_and_from_the_environment(on_busybox, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"of a file\n")
    monkeypatch.setenv("A_TOKEN", "of the environment")
    mounts = " ".join(f"--mount=type=secret,id={name}" for name in "abc")
    secrets = {"a": str(tmp_path / "file"), "b": tmp_path / "file", "c": "env:A_TOKEN"}
    on_busybox(f"FROM busybox\nRUN {mounts} cat /run/secrets/*", secrets=secrets)
    assert on_busybox.output() == "of a file\nof a file\nof the environment"


def test_from_a_pipe_for_several_steps(on_busybox):
    reading, writing = os.pipe()
    os.write(writing, b"piped\n")
    os.close(writing)
    try:
        run = f"{MOUNT} cat /run/secrets/token\n"
        on_busybox(f"FROM busybox\n{run}{run.replace('cat', 'cat -u')}", secrets={"token": f"/dev/fd/{reading}"})
    finally:
        os.close(reading)
    assert on_busybox.output() == "piped\npiped\n"


def test_one_that_is_not_given(on_busybox):
    on_busybox(f'FROM busybox\n{MOUNT} test ! -e /run/secrets/token\n{MOUNT},env=T echo "[$T]"')
    assert on_busybox.output() == "[]\n"
    with pytest.raises(pylxc.BuildError) as caught:
        on_busybox(f"FROM busybox\n{MOUNT},required true")
    assert caught.value.line == 2
    assert "secret token: it is required, and was not given" in str(caught.value)
    assert "--secret id=token,src=FILE" in str(caught.value)


def test_one_that_a_cached_step_would_ask_for_is_not_missed(on_busybox):
    text = f"FROM busybox\n{MOUNT},required true"
    on_busybox(text, secrets={"token": b"t"})
    on_busybox(text)
    assert on_busybox.cached() == [2]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"token": f"/nowhere/{CANARY}"}, "cannot be read (No such file or directory)"),
        ({"token": CANARY}, "cannot be read (No such file or directory)"),
        ({"token": f"{CANARY}\0"}, "holds a NUL byte"),
        ({"token": f"env:{CANARY}"}, "no variable"),
        ({"token": b"x" * (LARGEST + 1)}, "larger than"),
        ({"token": 5}, "neither content nor a path (int)"),
        ({"": b"x"}, "the id of a secret"),
        ({5: b"x"}, "the id of a secret"),
        ([("token", CANARY)], "give {"),
    ],
)
def test_what_cannot_be_a_secret_is_refused_without_being_shown(build, given, reason):
    with pytest.raises(pylxc.SpecError) as caught:
        build("FROM scratch", secrets=given)
    assert caught.value.option == "secrets"
    assert reason in str(caught.value)
    seen = "".join(map(repr, (caught.value, caught.value.__cause__, caught.value.value)))
    assert CANARY not in seen
    assert not (build.engine.root / "pylxc.db").exists() or not files_with(build.engine.root, CANARY.encode())


# -- what nobody else sees


def test_it_is_in_no_file_no_event_and_no_history(on_busybox):
    image = on_busybox(
        "FROM busybox\nARG A=1\n"
        "RUN --mount=type=secret,id=token,env=T --mount=type=secret,id=token test $(cat /run/secrets/token) = $T",
        secrets={"token": CANARY.encode()},
        tag="made",
    )
    assert files_with(on_busybox.engine.root, CANARY.encode()) == []
    told = repr([(event, event.data) for event in on_busybox.events])
    assert CANARY not in told + repr(image.history()) + repr(image.config)
    assert names(image.layers[1]) == []


def test_it_is_in_no_file_while_the_step_runs(on_busybox):
    found = []

    def look(event):
        if event.kind == "output":
            found.append((event.data, files_with(on_busybox.engine.root, CANARY.encode())))

    on_busybox.tell = look
    on_busybox(
        f"FROM busybox\n{MOUNT},env=T,target=/t test -s /t && echo ready && sleep 0.3",
        secrets={"token": CANARY.encode()},
    )
    assert found == [(b"ready\n", [])]


def test_it_is_in_no_error(on_busybox):
    with pytest.raises(pylxc.BuildError) as caught:
        on_busybox(f"FROM busybox\n{MOUNT},env=T /nowhere", secrets={"token": CANARY.encode()})
    text = repr(caught.value) + str(caught.value) + repr(caught.value.__dict__) + repr(pickle.dumps(caught.value))
    assert CANARY not in text
    with pytest.raises(pylxc.BuildError) as caught:  # where it cannot be mounted
        on_busybox(
            "FROM busybox\nRUN --mount=type=secret,id=token,target=/bin true", secrets={"token": CANARY.encode()}
        )
    assert CANARY not in repr(caught.value)
    assert "--mount=type=secret token on /bin" in str(caught.value)
    assert CANARY not in repr(Secrets({"token": CANARY.encode()}))
    with pytest.raises(TypeError):
        pickle.dumps(Secrets({"token": CANARY.encode()}))


def test_a_copy_that_the_step_makes_is_found_by_the_test(on_busybox):
    """What the tests above look for would be found."""
    on_busybox(f"FROM busybox\n{MOUNT} cp /run/secrets/token /copy", secrets={"token": CANARY.encode()})
    assert any(
        re.fullmatch(r"layers/[0-9a-f]{64}/copy", path) for path in files_with(on_busybox.engine.root, CANARY.encode())
    )


def test_the_key_knows_the_id_and_the_target_but_not_the_value(on_busybox):
    on_busybox(f"FROM busybox\n{MOUNT} true", secrets={"token": b"one"})
    on_busybox(f"FROM busybox\n{MOUNT} true", secrets={"token": b"two"})
    assert on_busybox.cached() == [2]
    on_busybox(f"FROM busybox\n{MOUNT},target=/t true", secrets={"token": b"two"})
    assert on_busybox.cached() == []
    on_busybox("FROM busybox\nRUN --mount=type=secret,id=other true", secrets={"token": b"two"})
    assert on_busybox.cached() == []


def test_other_processes_of_the_machine_do_not_see_it(on_busybox):
    """Neither the helper's memory, environment or command line nor a directory of the host's shows it."""
    seen = []

    def look(event):
        if event.kind != "output":
            return
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    data = (process / name).read_bytes()
                except OSError:
                    continue
                if CANARY.encode() in data and b"T=" + CANARY.encode() not in data:
                    seen.append((process.name, name))
        seen.extend(files_with("/dev/shm", CANARY.encode()))

    on_busybox.tell = look
    on_busybox(f"FROM busybox\n{MOUNT} echo ready; sleep 0.2", secrets={"token": CANARY.encode()})
    assert on_busybox.output() == "ready\n"
    assert seen == []


# -- its mount point


def test_the_place_is_left_as_it_was(on_busybox):
    image = on_busybox(
        "FROM busybox\nRUN mkdir -p /run/secrets && touch -d @1000000000 /run/secrets /run\n"
        f"{MOUNT} true\nRUN rm -r /run\n{MOUNT} true\n{MOUNT} mkdir /run/mine",
        secrets={"token": b"t"},
    )
    assert [names(layer) for layer in image.layers[2:]] == [[], [".wh.run"], [], ["run", "run/mine"]]
    assert not any("secrets" in name for name in members(image.layers[-1]))


def test_a_target_that_is_a_link_leads_nowhere_outside(on_busybox, tmp_path):
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    canary.chmod(0o666)
    tmp_path.chmod(0o777)
    image = on_busybox(
        f"FROM busybox\nRUN mkdir /run && ln -s {tmp_path} /run/secrets && ln -s {canary} /link\n"
        f"{MOUNT} cat /run/secrets/token\n"
        "RUN --mount=type=secret,id=token,target=/link cat /link\n"
        "RUN --mount=type=secret,id=token,target=/../../link2 cat /link2",
        secrets={"token": b"t\n"},
    )
    assert on_busybox.output() == "t\nt\nt\n"
    assert canary.read_text() == "untouched"
    assert sorted(os.listdir(tmp_path)) == ["canary", "context", "store"]
    assert [names(layer) for layer in image.layers[2:]] == [[], [], []]
