"""Container.diff: the letters of docker diff, and nothing that the runtime put there itself."""

from __future__ import annotations

import os

import pytest

import pylxc
from pylxc import Change

SEED = """
mkdir -p /t/dir/sub /t/replaced /t/kept /t/opaque/deep
for f in /t/file /t/dir/a /t/dir/b /t/dir/sub/c /t/replaced/x /t/kept/y /t/opaque/old /t/opaque/same /t/opaque/deep/z
do echo $f >$f; done
ln -s /t/dir /t/link
"""


@pytest.fixture(scope="module")
def seeded(box_engine):
    """An image with some files on busybox, made by commit."""
    with pylxc.start("busybox", ["sleep", "1000"], engine=box_engine) as container:
        container.exec(["sh", "-c", SEED])
        return container.commit()


def kinds(container: pylxc.Container) -> dict[str, str]:
    found = container.diff()
    assert isinstance(found, list)
    assert [change.path for change in found] == sorted(change.path for change in found)
    return {change.path: change.kind for change in found}


def after(box, seeded, script: str, **options) -> dict[str, str]:
    """Return what differs when a script has run; the same while it runs as when it has ended."""
    with box.start("sleep", "1000", image=seeded, **options) as container:
        container.exec(["sh", "-c", script])
        running = kinds(container)
        container.stop(timeout=0)
        assert kinds(container) == running
        return running


def test_a_container_that_did_nothing(box, seeded):
    container = box.create("true", image=seeded)
    assert container.diff() == []
    container.start()
    container.wait()
    assert container.diff() == []
    container.remove()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo x >/new", {"/new": "added"}),
        ("mkdir -p /t/dir/n/m", {"/t": "changed", "/t/dir": "changed", "/t/dir/n": "added", "/t/dir/n/m": "added"}),
        ("echo x >>/t/dir/sub/c", dict.fromkeys(("/t", "/t/dir", "/t/dir/sub", "/t/dir/sub/c"), "changed")),
        ("chmod 700 /t/dir", {"/t": "changed", "/t/dir": "changed"}),
        ("rm /t/dir/a", {"/t": "changed", "/t/dir": "changed", "/t/dir/a": "deleted"}),
        ("rm -r /t/dir", {"/t": "changed", "/t/dir": "deleted"}),
        ("ln -sfn /x /t/link", {"/t": "changed", "/t/link": "changed"}),
        ("mkfifo /t/fifo", {"/t": "changed", "/t/fifo": "added"}),
        ("rm -r /t/replaced; echo x >/t/replaced", {"/t": "changed", "/t/replaced": "changed"}),
        (
            "rm /t/file; mkdir /t/file; echo x >/t/file/in",
            {"/t": "changed", "/t/file": "changed", "/t/file/in": "added"},
        ),
        (
            "rm -r /t/opaque; mkdir -p /t/opaque/fresh; echo x >/t/opaque/same",
            {
                "/t": "changed",
                "/t/opaque": "changed",
                "/t/opaque/same": "changed",
                "/t/opaque/fresh": "added",
                "/t/opaque/old": "deleted",
                "/t/opaque/deep": "deleted",
            },
        ),
        ("echo x >/n; rm /n; mkdir /m; rmdir /m", {}),
    ],
)
def test_what_a_script_changes(box, seeded, script, expected):
    assert after(box, seeded, script) == expected


def test_names_of_any_bytes(box, seeded):
    found = after(box, seeded, "cd /t; touch \"$(printf '\\377\\nx')\"")
    assert found == {"/t": "changed", os.fsdecode(b"/t/\xff\nx"): "added"}


def test_what_is_mounted_does_not_count(box, seeded, tmp_path):
    (tmp_path / "bind").mkdir(mode=0o777)
    options = {
        "tmpfs": ["/scratch/a"],
        "volumes": {str(tmp_path / "bind"): "/t/dir/bound"},
        "mounts": [pylxc.Mount(type="volume", target="/t/link/volume")],
    }
    script = "touch /scratch/a/x /t/link/volume/y /dev/shm/z"
    assert after(box, seeded, script, **options) == {}
    assert after(box, seeded, script + "; touch /scratch/w", **options) == {"/scratch": "added", "/scratch/w": "added"}


def test_a_link_of_a_layer_leads_nowhere_on_the_host(box, tmp_path):
    """What lies below a link of the image is not in the image, whatever the host has at that path."""
    (tmp_path / "secret").write_text("")
    with box.start("sleep", "1000") as container:
        container.exec(["ln", "-s", str(tmp_path), "/link"])
        image = container.commit()
    found = after(box, image, "rm /link; mkdir /link; touch /link/secret")
    assert found == {"/link": "changed", "/link/secret": "added"}


def test_deeper_than_a_path_may_be_long(box):
    half = 'n=$(printf "%0200d" 0); cd /tmp; for i in $(seq 15); do mkdir $n; cd $n; done'
    deep = f"({half}; touch end); mv /tmp/0* /half; {half}; mv /half half"
    with box.start("sleep", "1000") as container:
        container.exec(["sh", "-c", deep])
        found = container.diff()
        way = "/" + "0" * 200
        assert found[-1].path == "/tmp" + way * 15 + "/half" + way * 14 + "/end"
        assert len(found) == 1 + 15 + 1 + 14 + 1


def test_the_host_image_of_which_usr_was_left_alone(box):
    with box.start("sleep", "1000", image="host") as container:
        container.exec(["sh", "-c", "echo x >/var/x"])
        assert kinds(container) == {"/var": "changed", "/var/x": "added"}
        assert len(container.commit().layers) == 2


@pytest.mark.root  # the host's /usr belongs to nobody in an ordinary user's containers
def test_the_host_image(box):
    with box.start("sleep", "1000", image="host") as container:
        assert container.diff() == []
        container.exec(["sh", "-c", "echo x >/var/x; mkdir -p /usr/local/pylxc-test/d"])
        assert kinds(container) == {
            "/usr": "changed",
            "/usr/local": "changed",
            "/usr/local/pylxc-test": "added",
            "/usr/local/pylxc-test/d": "added",
            "/var": "changed",
            "/var/x": "added",
        }


def test_what_is_in_memory_only_is_not_passed_over_in_silence(box):
    with (
        box.popen("sleep", "1000", image="host", remove=True) as process,
        pytest.raises(pylxc.UnsupportedError, match="in memory; leave remove out"),
    ):
        process.container.diff()


def test_one_that_was_removed(box, seeded):
    container = box.create("true", image=seeded)
    container.remove()
    with pytest.raises(pylxc.ContainerNotFound):
        container.diff()


def test_a_change_is_a_value():
    assert Change("/x", "added") == Change(path="/x", kind="added")
