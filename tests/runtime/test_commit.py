"""Container.commit: the image shows what the container showed, the container does not notice, and nothing is left."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time

import pytest
from archives import ACL, ACL_OF_1000

import pylxc
from pylxc import aio
from pylxc.runtime import cgroup, isolation
from pylxc.store.layers import Layers
from tests.boxes import await_true, entries

CAP_NET_RAW_V2 = bytes.fromhex("0000000200200000000000000000000000000000")
OURS = ("dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf")  # the runtime's own
USERNS = [{}, {"userns": "host"}, {"privileged": True}] if os.geteuid() == 0 else [{}]


def shown(container: pylxc.Container) -> dict[str, tuple[object, ...]]:
    """Return everything that a container shows: of each path its kind, mode, owner, time, attributes and content."""
    stream = io.BytesIO()
    container.copy_out("/.", stream, archive=True)
    stream.seek(0)
    found = {}
    with tarfile.open(fileobj=stream) as tar:
        for entry in tar:
            name = entry.name.removeprefix("./")
            if name in ("", ".") or any(name == own or name.startswith(f"{own}/") for own in OURS):
                continue
            file = tar.extractfile(entry) if entry.isreg() else None
            content = hashlib.sha256(file.read()).hexdigest() if file else entry.linkname
            extra = {key: value for key, value in entry.pax_headers.items() if key != "path"}
            found[name] = (entry.type, entry.mode, entry.uid, entry.gid, entry.mtime, entry.size, content, extra)
    return found


def image_shows(image: pylxc.Image, engine: pylxc.Engine, options) -> dict[str, tuple[object, ...]]:
    container = pylxc.create(image, ["true"], engine=engine, **options)
    try:
        return shown(container)
    finally:
        container.remove()


def by_names(shows: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """Return the same with every name of a file as one of its own.

    A file of the image that gets a second name in the container is copied up, and its two names have numbers of
    different inodes from then on (the kernel's overlayfs.rst): only the image tells that it is one file.
    """
    links = {name: str(entry[6]).removeprefix("./") for name, entry in shows.items() if entry[0] == tarfile.LNKTYPE}
    return {name: shows[links.get(name, name)] for name in shows}


def one_operation(chance: random.Random) -> str:
    """Return a line of shell that does something to one or two of a few paths, and may fail."""
    first, second = ("/t/" + "/".join(chance.choices("abc", k=chance.randint(1, 3))) for _ in range(2))
    number = chance.randrange(1000)
    return chance.choice(
        [
            *(
                f"mkdir -p {first}",
                f"rm -rf {first}",
                f"mv {first} {second}",
                f"[ -p {first} ] || echo {number} >{first}",
            ),
            *(
                f"[ -p {first} ] || echo {number} >>{first}",
                f"ln {first} {second}",
                f"ln -sfn {second} {first}",
                f"mkfifo {first}",
            ),
            *(f"chmod {number % 0o777:o} {first}", f"chown {number % 9}:{number % 7} {first}"),
            *(f"rm -rf {first}; mkdir -p {first}", f"touch -d @{number} {first}"),
            f"timeout 5 cp -a {first} {second}",  # it waits for a reader where a pipe is in its way
        ]
    )


def model_of(before: dict, after: dict) -> dict[str, set[str]]:
    """Return what must have been added, deleted (topmost only) and changed, from what both show."""
    gone = before.keys() - after.keys()
    # What a file took the place of is not told of one by one.
    topmost = {name for name in gone if (up := name.rpartition("/")[0]) not in gone and is_directory(after, up)}
    same = before.keys() & after.keys()
    changed = {name for name in same if before[name] != after[name]}
    return {"added": after.keys() - before.keys(), "deleted": topmost, "changed": changed}


def is_directory(shows: dict, name: str) -> bool:
    return not name or shows[name][0] == tarfile.DIRTYPE


@pytest.mark.parametrize("options", USERNS, ids=str)
def test_the_image_shows_what_the_container_showed(box, options):
    """Rounds of operations by chance, each on the image of the round before."""
    seed = int(os.environ.get("PYLXC_COMMITS") or random.randrange(1 << 30))
    chance = random.Random(seed)
    image = pylxc.Image.get("busybox", engine=box.engine)
    for number in range(4):
        script = "\n".join(one_operation(chance) for _ in range(40))
        with box.start("sleep", "1000", image=image, **options) as container:
            before = shown(container)
            container.exec(["sh", "-c", f"({script}) 2>/dev/null; true"])
            after, changes = shown(container), container.diff()
            committed = container.commit()
            assert container.status() == "running"
            assert shown(container) == after, f"PYLXC_COMMITS={seed}, round {number}"
        shows = image_shows(committed, box.engine, options)
        assert by_names(shows) == by_names(after), f"PYLXC_COMMITS={seed}, round {number}"
        found = {kind: {c.path[1:] for c in changes if c.kind == kind} for kind in ("added", "deleted", "changed")}
        model = model_of(by_names(before), by_names(after))
        assert found["added"] == model["added"], f"PYLXC_COMMITS={seed}, round {number}"
        assert found["deleted"] == model["deleted"], f"PYLXC_COMMITS={seed}, round {number}"
        assert found["changed"] >= model["changed"], f"PYLXC_COMMITS={seed}, round {number}"
        image = committed


def test_attributes_capabilities_and_set_id_bits_are_kept(box, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    os.setxattr(tree / "file", "user.kept", b"yes")
    if os.geteuid() == 0:
        os.setxattr(tree / "file", "security.capability", CAP_NET_RAW_V2)
    os.link(tree / "file", tree / "other")
    (tree / "suid").write_text("x")
    (tree / "suid").chmod(0o4755)
    with box.start("sleep", "1000", userns="host" if os.geteuid() == 0 else None) as container:
        container.copy_in(tree, "/", archive=True)
        container.exec(["sh", "-c", "cd /tree; ln -s nowhere link; nc -lU socket & sleep 0.1; mkfifo fifo"])
        before = shown(container)
        image = container.commit()
    after = image_shows(image, box.engine, {})
    assert after == {name: entry for name, entry in before.items() if name != "tree/socket"}
    assert after["tree/file"][-1]["SCHILY.xattr.user.kept"] == "yes"
    assert after["tree/other"][0] == tarfile.LNKTYPE
    assert after["tree/suid"][1] == 0o4755


def test_rights_that_a_directory_hands_down_stay_its_own(box, tmp_path):
    (tmp_path / "tree").mkdir()
    os.setxattr(tmp_path / "tree", ACL, ACL_OF_1000)
    with box.start("sleep", "1000") as container:
        container.copy_in(tmp_path / "tree", "/", archive=True)
        container.exec(["sh", "-c", "echo secret >/t; chmod 640 /t; mv /t /tree/moved; echo >/tree/made"])
        before = shown(container)
        image = container.commit()
    image.verify()
    after = image_shows(image, box.engine, {})
    assert after == before
    assert "SCHILY.xattr." + ACL in after["tree"][-1]
    assert "SCHILY.xattr.system.posix_acl_access" in after["tree/made"][-1]
    assert not [key for key in after["tree/moved"][-1] if "acl" in key]


def test_the_layer_is_what_its_digest_says(box):
    with box.start("sleep", "1000") as container:
        container.exec(
            [
                "sh",
                "-c",
                "mkdir /d; echo 1 >/d/f; rm /etc/passwd; rm -r /tmp; mkdir /tmp; head -c 3000000 /dev/zero >/z",
            ]
        )
        image = container.commit()
        assert container.commit().layers == image.layers, "the same content is the same layer"
    layer = image.layers[-1]
    with layer.tar() as stream:
        data = stream.read()
    assert layer.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert layer.size == len(data)
    assert {entry.path for entry in layer.entries() if entry.kind == "whiteout"} == {"etc/passwd"}


@pytest.mark.parametrize("state", ["created", "running", "exited"])
def test_one_that_wrote_nothing_gives_no_layer(box, state):
    """As docker: there is a line in the history, and no layer."""
    container = box.create("sh", "-c", "exec sleep 1000" if state == "running" else "true")
    if state != "created":
        container.start()
    if state == "exited":
        container.wait()
    image = container.commit(message="nothing")
    assert image.layers == container.image.layers
    assert image.history()[-1].empty_layer
    container.remove(force=True)


@pytest.mark.root  # the host's /usr belongs to nobody in an ordinary user's containers
def test_the_host_image(box):
    with box.start("sleep", "1000", image="host") as container:
        assert container.commit().layers == container.image.layers
        container.exec(["sh", "-c", "echo x >/var/x; echo y >/usr/local/pylxc-test"])
        image = container.commit()
    assert box.run("cat", "/var/x", "/usr/local/pylxc-test", image=image).text == "x\ny\n"


# -- the configuration -------------------------------------------------------------------------------------------------


def test_the_configuration_is_the_containers(box):
    options = {
        "env": {"A": "1"},
        "labels": {"l": "m"},
        "workdir": "/tmp",
        "user": "nobody",
        "stop_signal": "SIGINT",
        "healthcheck": {"test": ["CMD", "true"], "interval": 9},
        "volumes": [pylxc.Mount(type="volume", target="/data")],
    }
    with box.start("sleep", "1000", **options) as container:
        image = container.commit("given:1", author="me", message="for a test")
    config = image.config
    assert (config.env, config.labels, config.workdir, config.user) == ({"A": "1"}, {"l": "m"}, "/tmp", "nobody")
    assert (config.cmd, config.entrypoint, config.stop_signal) == (("sleep", "1000"), None, "SIGINT")
    assert config.healthcheck == pylxc.Healthcheck(test=("CMD", "true"), interval=9)
    assert config.volumes == ("/data",)
    assert image.refs == ("given:1",)
    last = image.history()[-1]
    assert last.created_by == "sleep 1000"
    assert last.extra == {"author": "me", "comment": "for a test"}
    assert image._document.extra == {"author": "me"}
    with box.create("sleep", "1", image=image, entrypoint=["/bin/env"]) as container:
        again = container.commit()
        assert again._document.extra == {"author": "me"}
        config = again.config
        assert (config.entrypoint, config.cmd) == (("/bin/env",), ("sleep", "1"))
    with pylxc.create(image, None, entrypoint=["/bin/env"], engine=box.engine) as container:
        assert container.commit().config.cmd is None


def test_instructions_change_the_configuration(box):
    changes = [
        'ENTRYPOINT ["/bin/echo"]',
        "CMD one two",
        "ENV A=1 B=2",
        "env C=$A",
        "EXPOSE 80 53/udp",
        "LABEL l=m",
        "USER nobody",
        "VOLUME /v",
        "WORKDIR /w",
        "WORKDIR x",
        "STOPSIGNAL SIGQUIT",
        "ONBUILD RUN true",
        "HEALTHCHECK --interval=1m --retries=2 CMD curl localhost",
    ]
    with box.create("true") as container:
        config = container.commit(changes=changes).config
    assert (config.entrypoint, config.cmd) == (("/bin/echo",), ("/bin/sh", "-c", "one two"))
    assert config.env == {"A": "1", "B": "2", "C": "1"}
    assert config.exposed_ports == ("53/udp", "80/tcp")
    assert (config.labels, config.user, config.workdir, config.volumes) == ({"l": "m"}, "nobody", "/w/x", ("/v",))
    assert (config.stop_signal, config.onbuild) == ("SIGQUIT", ("RUN true",))
    assert config.healthcheck == pylxc.Healthcheck(test=("CMD-SHELL", "curl localhost"), interval=60, retries=2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["RUN true"], "RUN cannot change a configuration"),
        (["ENV A=1\nRUN true"], "one line"),
        (["ENV A=1 \\", "RUN true"], "one line"),
        (["# a comment"], "one line"),
        (["USER"], "needs an operand"),
        (["HEALTHCHECK --retries=x CMD true"], "retries"),
        (["HEALTHCHECK true"], "HEALTHCHECK NONE"),
        ("USER nobody", "give a list"),
    ],
)
def test_what_is_no_change_is_refused_before_anything_is_done(box, changes, words):
    with box.create("true") as container, pytest.raises(pylxc.SpecError, match=words):
        container.commit(changes=changes)


def test_a_malformed_change_is_pointed_at(box):
    with box.create("true") as container, pytest.raises(pylxc.DockerfileError, match="bad port") as caught:
        container.commit(changes=["USER nobody", "EXPOSE http"])
    assert (caught.value.path, caught.value.line, caught.value.source) == ("changes", 2, "EXPOSE http")


def test_source_date_epoch_is_obeyed_and_the_container_left_alone(box, monkeypatch):
    images = []
    for _ in range(2):
        with box.start("sleep", "1000") as container:
            container.exec(["sh", "-c", "mkdir /d; echo 1 >/d/f; touch -d @1000 /d/old"])
            before = shown(container)
            monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000")
            images.append(container.commit())
            monkeypatch.delenv("SOURCE_DATE_EPOCH")
            assert shown(container) == before
    assert images[0] == images[1]
    assert images[0].created == 1000000
    after = image_shows(images[0], box.engine, {})
    assert (after["d/f"][4], after["d/old"][4]) == (1000000, 1000)


# -- pausing -----------------------------------------------------------------------------------------------------------

WRITER = "i=0; while :; do i=$((i+1)); echo $i >/new; mv /new /a; echo $i >/new; mv /new /b; done"


def status_while_copying(monkeypatch, container) -> list[str]:
    """Let the status at the time of the copy be noted."""
    seen: list[str] = []
    real = isolation.transfer_plan

    def look(*operands, **options):
        seen.append(str(container.status()))
        return real(*operands, **options)

    monkeypatch.setattr(isolation, "transfer_plan", look)
    return seen


@pytest.mark.cgroups
def test_it_is_paused_and_goes_on(box, monkeypatch):
    with box.start("sh", "-c", WRITER) as container:
        await_true(container.diff, "the writer")
        seen = status_while_copying(monkeypatch, container)
        for _ in range(3):
            container.commit()
            assert container.status() == "running"
        assert set(seen) == {"paused"}
        seen.clear()
        container.commit(pause=False)
        assert set(seen) == {"running"}
        container.pause()
        container.commit()
        assert container.status() == "paused"
        container.unpause()


def test_a_writer_at_work_does_no_harm(box):
    with box.start("sh", "-c", WRITER) as container:
        await_true(container.diff, "the writer")
        for _ in range(10):
            image = container.commit(pause=False)
            with image.layers[-1].tar() as stream:
                assert hashlib.sha256(stream.read()).hexdigest() == image.layers[-1].digest.removeprefix("sha256:")


COMMITTER = """
import sys, time, pylxc
from pylxc.runtime import isolation
def stay(*operands, **options):
    print("copying", flush=True)
    time.sleep(1000)
isolation.transfer_plan = stay
pylxc.Container.get(sys.argv[2], engine=pylxc.Engine(sys.argv[1])).commit("killed")
"""


@pytest.mark.cgroups
def test_it_goes_on_when_the_committer_is_killed(box):
    with box.start("sh", "-c", WRITER) as container:
        await_true(container.diff, "the writer")
        words = [sys.executable, "-c", COMMITTER, str(box.engine.root), container.id]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as committer:
            assert committer.stdout.readline() == b"copying\n"
            assert container.status() == "paused"
            committer.send_signal(signal.SIGKILL)
        await_true(lambda: container.status() == "running", "going on")
    program = f"import pylxc; pylxc.Engine({str(box.engine.root)!r}).store"  # whoever opens it next tidies up
    subprocess.run([sys.executable, "-c", program], check=True)
    assert entries(box.engine)["staging"] == []


@pytest.mark.cgroups
def test_it_goes_on_after_a_failure(box, monkeypatch):
    with box.start("sleep", "1000") as container:
        container.exec(["touch", "/x", "/.wh.x"])
        with pytest.raises(pylxc.Conflict, match=r"begins with \"\.wh\.\""):
            container.commit("bad")
        assert container.status() == "running"
        container.exec(["rm", "/.wh.x"])

        def interrupted(*_operands, **_options):
            raise KeyboardInterrupt

        monkeypatch.setattr(Layers, "commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            container.commit("bad")
        assert container.status() == "running"
        assert entries(box.engine)["staging"] == []
        with pytest.raises(pylxc.ImageNotFound):
            pylxc.Image.get("bad", engine=box.engine)


def test_where_it_cannot_be_paused_that_is_told(box, monkeypatch, caplog):
    def refuse(_id: str):
        raise pylxc.UnsupportedError("pausing this container", "it has no cgroup")

    monkeypatch.setattr(cgroup, "freezer", refuse)
    with box.start("sleep", "1000") as container:
        container.exec(["touch", "/x"])
        assert len(container.commit().layers) == 2
    assert "is copied as it runs" in caplog.text


# -- and the rest ------------------------------------------------------------------------------------------------------


def test_bad_references_and_containers_that_are_gone(box):
    container = box.create("true")
    with pytest.raises(pylxc.SpecError):
        container.commit("UPPER:case")
    container.remove()
    with pytest.raises(pylxc.ContainerNotFound):
        container.commit()


def test_on_an_event_loop_it_does_not_block(box):
    """While a large file is copied, other tasks have their turn; one that is cancelled leaves nothing."""

    async def main() -> tuple[int, pylxc.Image]:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with aio.start("busybox", ["sleep", "1000"], engine=box.engine) as container:
            await container.exec(["sh", "-c", "head -c 40000000 /dev/zero >/large"])
            assert [change.path for change in await container.diff()] == ["/large"]
            counting = asyncio.create_task(count())
            image = await container.commit()
            counting.cancel()
            begun = time.monotonic()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(container.commit("late"), 0.01)
            assert time.monotonic() - begun < 5
            assert await container.status() == "running"
            return turns, image

    turns, image = asyncio.run(main())
    assert turns > 40
    assert len(image.layers) == 2
    assert entries(box.engine)["staging"] == []
