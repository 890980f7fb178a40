"""Prune takes what is not in use and nothing else; disk usage counts what is on disk, once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from damages import layer_path
from ownnet import links, own_network

import pylxc
from pylxc.imageconfig import ImageDocument

if TYPE_CHECKING:
    from pathlib import Path


def image(engine: pylxc.Engine, directory: Path, name: str, ref: str | None, **labels: str) -> pylxc.Image:
    """An image of one file of 64 KiB."""
    tree = directory / f"tree-{name}"
    tree.mkdir()
    (tree / name).write_bytes(name.encode() * (65536 // len(name)))
    config = pylxc.ImageConfig(labels=labels, cmd=("/x",))
    return pylxc.Image.from_directory(tree, ref, config=config, engine=engine)


def ids(engine: pylxc.Engine) -> set[str]:
    return {found.id for found in pylxc.Image.list(engine=engine)}


def test_nothing_to_prune(engine):
    assert engine.prune(all=True, volumes=True) == pylxc.Pruned()
    empty = pylxc.Usage(0, 0, 0, 0)
    assert engine.disk_usage() == pylxc.DiskUsage(empty, empty, empty, empty)


def test_images_without_a_name_go_and_with_all_those_without_a_container(engine, tmp_path):
    named, dangling, used = (
        image(engine, tmp_path, name, name if name != "two" else None) for name in ("one", "two", "three")
    )
    container = pylxc.create(used, detach=True, engine=engine)
    used.untag("three")
    usage = engine.disk_usage().images
    assert (usage.count, usage.active) == (3, 1)
    assert usage.size > 3 * 65536
    gone = engine.prune(containers=False)
    assert gone.images == (dangling.id,)
    assert gone.reclaimed >= 65536
    assert engine.disk_usage().images.size == usage.size - gone.reclaimed
    assert ids(engine) == {named.id, used.id}
    gone = engine.prune(containers=False, all=True)
    assert (gone.images, gone.untagged) == ((named.id,), ("one:latest",))
    assert ids(engine) == {used.id}
    gone = engine.prune(all=True)
    assert (gone.containers, gone.images) == ((container.id,), (used.id,))
    assert engine.disk_usage().size == 0
    assert engine.check().ok


def test_what_two_images_share_is_counted_once_and_reclaimable_only_with_both(engine, tmp_path):
    first = image(engine, tmp_path, "one", "one")
    alone = engine.disk_usage().images.size
    with engine.store.leases.take() as lease:
        document = ImageDocument(
            config=pylxc.ImageConfig(cmd=("/x",)),
            platform=first.platform,
            created=1.0,
            diff_ids=(first.layers[0].digest,),
        )
        engine.store.images.add(document, "second", lease)
    both = engine.disk_usage().images
    assert both.count == 2
    assert alone < both.size < alone + 65536
    container = pylxc.create("one", detach=True, engine=engine)
    assert engine.disk_usage().images.reclaimable < 65536
    container.remove()


def test_a_running_container_and_its_image_stay(engine, busybox):
    with pylxc.start(busybox, ["sleep", "1000"], detach=True, engine=engine) as container:
        assert engine.prune(all=True, volumes=True) == pylxc.Pruned()
        usage = engine.disk_usage().containers
        assert (usage.count, usage.active, usage.reclaimable) == (1, 1, 0)
        assert container.exec(["true"]).ok


@pytest.mark.cgroups
def test_a_paused_container_stays(engine, busybox):
    with pylxc.start(busybox, ["sleep", "1000"], detach=True, engine=engine) as container:
        container.pause()
        assert engine.prune(all=True) == pylxc.Pruned()
        container.unpause()


def test_containers_of_another_process_that_lives_stay(engine, busybox):
    program = (
        "import sys, pylxc\n"
        f"container = pylxc.create('busybox', ['true'], engine=pylxc.Engine({str(engine.root)!r}))\n"
        "print(container.id, flush=True)\n"
        "sys.stdin.read()\n"
        "container.remove()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline()
    assert engine.prune(all=True) == pylxc.Pruned()
    child.communicate()
    assert child.returncode == 0


def test_labels_and_age(engine, tmp_path):
    kept = image(engine, tmp_path, "one", None, keep="yes")
    other = image(engine, tmp_path, "two", None, tier="db", size="big")
    assert engine.prune(until="1h") == pylxc.Pruned()
    assert engine.prune(labels=["tier=web"]) == pylxc.Pruned()
    assert engine.prune(labels=["tier", "keep"]) == pylxc.Pruned()
    assert engine.prune(without_labels=["keep", "size=big"]) == pylxc.Pruned()
    assert engine.prune(without_labels=["keep"]).images == (other.id,)
    time.sleep(0.01)
    assert engine.prune(labels=["keep=yes"], until=0).images == (kept.id,)


@pytest.mark.parametrize(
    "wrong", [{"until": "soon"}, {"labels": "key"}, {"labels": ["=value"]}, {"without_labels": [1]}]
)
def test_what_cannot_be_is_refused_before_anything_goes(wrong, engine, tmp_path):
    found = image(engine, tmp_path, "one", None)
    with pytest.raises(pylxc.SpecError):
        engine.prune(**wrong)
    assert ids(engine) == {found.id}


def test_volumes_go_only_when_asked_and_only_anonymous_ones_that_no_container_has(engine, busybox):
    pylxc.Volume.create("named", engine=engine)
    container = pylxc.create(busybox, ["true"], volumes=["/data"], detach=True, engine=engine)
    (anonymous,) = (volume.name for volume in pylxc.Volume.list(engine=engine) if volume.anonymous)
    usage = engine.disk_usage().volumes
    assert (usage.count, usage.active) == (2, 1)
    assert engine.prune(containers=False, volumes=True).volumes == ()
    # One that is left over: its container's row went without it.
    engine.store.volumes._database.write("DELETE FROM container_volumes WHERE volume = ?", (anonymous,))
    assert engine.prune(containers=False).volumes == ()
    assert engine.prune(containers=False, volumes=True).volumes == (anonymous,)
    container.remove()
    pylxc.Volume.get("named", engine=engine).remove()


def test_the_build_cache(engine, tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /file\n")
    (context / "file").write_bytes(b"x" * 65536)
    built = pylxc.Image.build(context, tag="built", engine=engine)
    usage = engine.disk_usage().build_cache
    assert (usage.count, usage.active, usage.size) == (1, 1, 0)
    assert engine.prune().cached == 0
    with engine.store.leases.take() as lease:
        lease.protect([built.layers[0].digest])
        built.remove()
    usage = engine.disk_usage().build_cache
    assert usage.count == 1
    assert usage.size == usage.reclaimable >= 65536
    assert engine.prune(labels=["any"]).cached == 0
    assert engine.prune(until="1h").cached == 0
    gone = engine.prune()
    assert gone.cached == 1
    assert gone.reclaimed >= 65536
    assert not os.path.exists(layer_path(built))
    assert engine.check().ok


def test_what_a_lease_relies_on_stays_until_it_ends(engine, tmp_path):
    found = image(engine, tmp_path, "one", None)
    with engine.store.leases.take() as lease:
        lease.protect([found.layers[0].digest])
        assert engine.prune().images == (found.id,)
        assert os.path.exists(layer_path(found))
    assert not os.path.exists(layer_path(found))


@pytest.mark.root
def test_networks_that_nobody_is_on_go(engine, tmp_path):
    with own_network():
        used, kept, _ = (
            pylxc.Network.create(name, labels={name: ""}, internal=True, engine=engine) for name in ("a", "b", "c")
        )
        container = pylxc.create(image(engine, tmp_path, "one", "one"), network="a", engine=engine)
        assert pylxc.Network.get("bridge", engine=engine).name == "bridge"
        usage = engine.disk_usage()
        assert engine.prune(images=False, containers=False, until="1h").networks == ()
        assert pylxc.Network.prune(without_labels=["b"], engine=engine) == pylxc.Pruned(networks=("c",))
        assert engine.disk_usage() == usage
        assert links() == {"lo", used.bridge, kept.bridge}
        command = [sys.executable, "-c", OWNER, str(engine.root)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"made\n"
            assert engine.prune().networks == ("a", "b")  # after the container; and not another process's
            assert [one.name for one in pylxc.Network.list(engine=engine)] == ["bridge", "theirs"]
            owner.communicate(b"")
        with pytest.raises(pylxc.ContainerNotFound):
            container.status()
        assert pylxc.Network.list({"name": "theirs"}, engine=engine) == []
        assert engine.check().ok


OWNER = """
import pylxc, sys
network = pylxc.Network.create("theirs", internal=True, engine=pylxc.Engine(sys.argv[1]))
print("made", flush=True)
sys.stdin.read()
"""
