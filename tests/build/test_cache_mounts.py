"""Cache mounts: kept between builds, apart by id, shared or not, and never anywhere but in their place."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from building import names

import pylxc
from pylxc.store.cachemounts import CacheUse

MOUNT = "RUN --mount=type=cache,target=/c"


def caches(build):
    """Return the caches of a store by identity, each with how many directories it has."""
    found = {}
    for row in build.engine.store.cachemounts.all():
        found[row.identity] = found.get(row.identity, 0) + 1
    return found


def nothing():
    pass


# -- what is kept


def test_what_a_step_leaves_is_there_for_the_next_build(on_busybox):
    image = on_busybox(f"FROM busybox\n{MOUNT} echo 1 >> /c/log\n{MOUNT} echo 2 >> /c/log; stat -c '%a %u %g' /c")
    assert on_busybox.output() == "755 0 0\n"
    on_busybox(f"FROM busybox\n{MOUNT} cat /c/log")
    assert on_busybox.output() == "1\n2\n"
    on_busybox(f"FROM busybox\n{MOUNT} cat /c/log", no_cache=True)
    assert on_busybox.output() == "1\n2\n"
    assert [names(layer) for layer in image.layers[1:]] == [[], []]
    assert caches(on_busybox) == {"/c": 1}


def test_its_content_is_no_part_of_the_key(on_busybox):
    on_busybox(f"FROM busybox\n{MOUNT} echo 1 >> /c/log")
    on_busybox(f"FROM busybox\n{MOUNT} echo 1 >> /c/log")
    assert on_busybox.cached() == [2]
    on_busybox(f"FROM busybox\n{MOUNT},id=other echo 1 >> /c/log")
    assert on_busybox.cached() == []


def test_it_is_known_by_its_id_or_its_target(on_busybox):
    on_busybox(f"FROM busybox\nWORKDIR /w\n{MOUNT} touch /c/one\n{MOUNT},id=/c ls /c\n{MOUNT},id=other ls /c")
    assert on_busybox.output() == "one\n"
    on_busybox("FROM busybox\nRUN --mount=type=cache,id=/c,target=/elsewhere ls /elsewhere")
    assert on_busybox.output() == "one\n"


def test_an_owner_and_a_mode_make_it_another_one(on_busybox):
    on_busybox(
        f"FROM busybox\nUSER 7:9\n{MOUNT},uid=7,gid=9,mode=0700 stat -c '%a %u %g' /c && echo x > /c/f\n"
        f"{MOUNT},uid=7,gid=9,mode=0700 cat /c/f\n{MOUNT} stat -c '%a %u %g' /c; ! touch /c/f 2> /dev/null"
    )
    assert on_busybox.output() == "700 7 9\nx\n755 0 0\n"
    assert len(caches(on_busybox)) == 2


def test_read_only(on_busybox):
    on_busybox(f"FROM busybox\n{MOUNT} echo x > /c/f\n{MOUNT},ro cat /c/f; ! touch /c/f 2> /dev/null")
    assert on_busybox.output() == "x\n"


def test_it_begins_with_what_another_root_has(on_busybox):
    on_busybox.write({"f": "of the context\n"})
    text = (
        "FROM busybox AS seed\nRUN mkdir -p /s/d && echo {} > /s/d/f && chown 7:9 /s/d/f\n"
        "FROM busybox\nRUN --mount=type=cache,from=seed,source=/s,target=/c cat /c/d/f; stat -c '%u %g' /c/d/f; "
        "echo changed > /c/d/f\n"
        "RUN --mount=type=cache,from=seed,source=/s,target=/c cat /c/d/f\n"
        "RUN --mount=type=cache,target=/c ls -A /c"
    )
    on_busybox(text.format("one"))
    assert on_busybox.output() == "one\n7 9\nchanged\n"
    on_busybox(text.format("two"))
    assert on_busybox.output() == "two\n7 9\nchanged\n"
    with pytest.raises(pylxc.BuildError, match="No such file"):  # nothing is kept of one that could not be begun
        on_busybox("FROM busybox AS seed\nFROM busybox\nRUN --mount=type=cache,from=seed,source=/no,target=/d true")
    assert "/d" not in repr(caches(on_busybox))


def test_a_failed_step_keeps_what_it_wrote(on_busybox):
    with pytest.raises(pylxc.BuildError):
        on_busybox(f"FROM busybox\n{MOUNT} echo x > /c/f; false")
    on_busybox(f"FROM busybox\n{MOUNT} cat /c/f")
    assert on_busybox.output() == "x\n"


# -- where it is


@pytest.mark.parametrize("name", ["../../../outside", "/", "..", ".", "a/b", "x" * 5000, "\u00e9\U0001f600", "locks"])
def test_no_id_leads_out_of_the_place(on_busybox, name):
    on_busybox("FROM busybox\nRUN true")
    before = sorted(os.listdir(on_busybox.engine.root))
    on_busybox(f"FROM busybox\n{MOUNT},id={name} echo x > /c/canary")
    assert sorted(os.listdir(on_busybox.engine.root)) == before
    ours = sorted(os.listdir(on_busybox.engine.root / "caches"))
    assert len(ours) == 2
    assert len(ours[0]) == 64
    assert ours[1] == "locks"
    assert (on_busybox.engine.root / "caches" / ours[0] / "data/canary").exists()
    assert caches(on_busybox) == {name: 1}


@pytest.mark.parametrize("value", ["x,target=/etc,from=host", "x,source=../..", '"x",rw', "x\ntarget=/etc"])
def test_a_value_with_commas_is_one_value(on_busybox, value):
    """Nothing that comes out of a variable is another option of the mount."""
    script = "echo x > /c/canary; ! test -e /etc/canary"
    on_busybox(f"FROM busybox\nARG ID\n{MOUNT},id=$ID {script}", args={"ID": value})
    assert caches(on_busybox) == {value: 1}
    [place] = [entry for entry in (on_busybox.engine.root / "caches").iterdir() if entry.name != "locks"]
    assert (place / "data/canary").read_text() == "x\n"


def test_two_builds_at_once_leave_no_mount_point(on_busybox):
    """Each clears away its own: the same steps, on the same base, at the same time."""
    text = "FROM busybox\nRUN --mount=type=tmpfs,target=/a/b --mount=type=cache,target=/c/d touch /{number}"

    def build(number: int) -> pylxc.Image:
        return pylxc.Image.build(io.BytesIO(text.format(number=number).encode()), engine=on_busybox.engine)

    with ThreadPoolExecutor(2) as pool:
        images = list(pool.map(build, range(6)))
    for number, image in enumerate(images):
        assert names(image.layers[-1]) == [str(number)]


def test_links_in_it_lead_nowhere(on_busybox, tmp_path):
    canary = tmp_path / "canary"
    canary.write_text("canary")
    on_busybox(
        f"FROM busybox\n{MOUNT} rm -rf /c/* && ln -s {tmp_path} /c/out && ln -s / /c/root\n"
        f"{MOUNT} cat /c/out/canary 2>&1; ls /c/root/c"
    )
    with pytest.raises(pylxc.BuildError, match="No such file"):
        on_busybox(f"FROM busybox\n{MOUNT} --mount=type=tmpfs,target=/c/out/deep true")
    assert canary.read_text() == "canary"
    assert sorted(os.listdir(tmp_path)) == ["canary", "context", "store"]


def test_a_step_cannot_exchange_the_directory(on_busybox):
    on_busybox(
        f"FROM busybox\n{MOUNT} ! mv /c /d 2> /dev/null && ! rmdir /c 2> /dev/null && echo x > /c/f\n{MOUNT} cat /c/f"
    )
    assert on_busybox.output() == "x\n"


def test_files_belong_to_the_steps_users(on_busybox):
    """The host sees them as it sees those of layers: whatever the range of ids that a step has."""
    on_busybox(f"FROM busybox\n{MOUNT} echo x > /c/f && chown 7:9 /c/f && chmod 600 /c/f\nUSER 7\n{MOUNT} cat /c/f")
    on_busybox(f"FROM busybox\nUSER 7\n{MOUNT} stat -c '%u %g' /c/f && cat /c/f")
    assert on_busybox.output() == "7 9\nx\n"


# -- several at once


def together(build, steps):
    """Build Dockerfiles at the same time; returns what each put out."""
    found, failures = {}, []

    def one(number, text):
        outputs = []
        path = build.files.path.parent / f"context{number}"
        path.mkdir(exist_ok=True)
        (path / "Dockerfile").write_text(text)

        def note(event):
            outputs.append(event.data.decode())

        try:
            pylxc.Image.build(path, engine=build.engine, on_event=note)
        except BaseException as error:  # noqa: BLE001  shown below
            failures.append(error)
        found[number] = "".join(outputs)

    threads = [threading.Thread(target=one, args=item) for item in enumerate(steps)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    return [found[number] for number in range(len(steps))]


MEETING = (
    "FROM busybox\nRUN --mount=type=cache,target=/c,sharing={sharing} touch /c/{me}; n=0; "
    "while [ ! -e /c/{other} -a $n -lt {patience} ]; do n=$((n+1)); sleep 0.05; done; ls /c | tr '\\n' ' '; rm /c/{me}"
)


def meeting(sharing, patience):
    return [MEETING.format(sharing=sharing, me=me, other=other, patience=patience) for me, other in ("ab", "ba")]


def test_shared(on_busybox):
    outputs = together(on_busybox, meeting("shared", 200))
    assert "a b " in outputs
    assert caches(on_busybox) == {"/c": 1}


def test_locked(on_busybox):
    assert sorted(together(on_busybox, meeting("locked", 10))) == ["a ", "b "]
    assert caches(on_busybox) == {"/c": 1}


def test_private(on_busybox):
    assert sorted(together(on_busybox, meeting("private", 40))) == ["a ", "b "]
    assert caches(on_busybox) == {"/c": 2}
    on_busybox(f"FROM busybox\n{MOUNT},sharing=private touch /c/x")
    assert caches(on_busybox) == {"/c": 2}, "the first that is free is used again"


def test_several_locked_ones_in_any_order(on_busybox):
    run = "FROM busybox\nRUN {} sleep 0.2"
    mounts = [f"--mount=type=cache,target=/{name},sharing=locked" for name in "xyz"]
    together(on_busybox, [run.format(" ".join(mounts)), run.format(" ".join(reversed(mounts)))])


def test_more_than_there_are_descriptors(on_busybox):
    mounts = " ".join(f"--mount=type=cache,target=/c{n},sharing=locked" for n in range(40))
    on_busybox(f"FROM busybox\nRUN {mounts} ls -d /c* | wc -l")
    assert on_busybox.output() == "40\n"


def test_one_step_has_one_cache_twice(on_busybox):
    on_busybox("FROM busybox\nRUN --mount=type=cache,id=i,target=/a --mount=type=cache,id=i,target=/b,sharing=locked "
               "echo x > /a/f && cat /b/f")  # fmt: skip
    assert on_busybox.output() == "x\n"


HOLDER = """
import sys, pylxc
tell = lambda event: event.kind == "output" and print(event.data.decode(), end="", flush=True)
pylxc.Image.build(sys.argv[1], engine=pylxc.Engine(sys.argv[2]), on_event=tell)
"""


def test_a_lock_dies_with_its_holder(on_busybox):
    """The builder is killed in the middle: its step ends with it, and the cache is the next one's."""
    path = on_busybox.files.path
    (path / "Dockerfile").write_text(
        f"FROM busybox\n{MOUNT},sharing=locked date > /c/log; echo held; while sleep 0.02; do date >> /c/log; done"
    )
    words = [sys.executable, "-c", HOLDER, str(path), str(on_busybox.engine.root)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert [row.active for row in on_busybox.engine.store.cachemounts.all()] == [True]
        assert on_busybox.engine.disk_usage().build_cache.active == 1
        assert on_busybox.engine.prune(images=False).cached == 0, "it is in use"
        holder.send_signal(signal.SIGKILL)
    on_busybox(f"FROM busybox\n{MOUNT},sharing=locked cp /c/log /c/a && sleep 0.2 && cmp /c/log /c/a")
    assert caches(on_busybox) == {"/c": 1}
    on_busybox.engine.reopen()
    assert on_busybox.engine.store.leases.abandoned() == []
    assert list((on_busybox.engine.root / "staging").iterdir()) == []


def test_waiting_for_a_lock_ends_when_another_stage_fails(on_busybox):
    store = on_busybox.engine.store.cachemounts
    with store.using([CacheUse(identity="/c", sharing="locked")], nothing):
        begin = time.monotonic()
        with pytest.raises(pylxc.BuildError, match="line 4"):
            on_busybox(
                f"FROM busybox AS a\n{MOUNT} true\nFROM busybox AS b\nRUN sleep 0.2; false\n"
                "FROM scratch\nCOPY --from=a / /\nCOPY --from=b / /"
            )
        assert time.monotonic() - begin < 10


# -- its care


def test_it_counts_and_can_be_pruned(on_busybox):
    engine = on_busybox.engine
    before = engine.disk_usage().build_cache
    on_busybox(
        f"FROM busybox\n{MOUNT} head -c 300000 /dev/urandom > /c/f && chown 7:7 /c/f && mkdir -m 0 /c/d && chown 7 /c/d"
    )
    with_one = engine.disk_usage().build_cache
    assert with_one.count == before.count + 2, "the layer's entry, and the cache"
    assert with_one.size >= before.size + 300000
    assert with_one.reclaimable == with_one.size
    assert engine.prune(images=False, labels=["a=b"]).cached == 0
    assert engine.prune(images=False, until="1h").cached == 0
    assert caches(on_busybox) == {"/c": 1}
    gone = engine.prune(images=False)
    assert gone.cached >= 1
    assert gone.reclaimed >= 300000
    assert caches(on_busybox) == {}
    on_busybox(f"FROM busybox\n{MOUNT} ls -A /c; true")
    assert on_busybox.output() == ""
    assert engine.check().ok


def test_one_whose_making_was_cut_short_is_made_anew(on_busybox):
    on_busybox(f"FROM busybox\n{MOUNT} touch /c/f")
    (place,) = (on_busybox.engine.root / "caches").glob("?" * 64)
    (place / "data").rename(place / "fresh")
    (place / "about").write_text("")
    assert caches(on_busybox) == {"": 1}
    on_busybox(f"FROM busybox\n{MOUNT} ls -A /c")
    assert on_busybox.output() == ""
    assert caches(on_busybox) == {"/c": 1}


def test_one_that_cannot_be_begun_leaves_nothing(on_busybox):
    store = on_busybox.engine.store.cachemounts

    def fail(directory):
        os.mkdir(f"{directory}/half")
        raise RuntimeError("cut short")

    with pytest.raises(RuntimeError), store.using([CacheUse(identity="/c", fill=fail)], nothing):
        pass
    assert store.all() == []
