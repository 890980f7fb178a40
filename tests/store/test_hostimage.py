"""The host image: what of this machine it shows, and above all what it does not."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

import pylxc
from pylxc import hostimage

PRIVATE_KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"


def entries(top: Path) -> dict[str, os.stat_result]:
    return {str(path.relative_to(top)): path.lstat() for path in top.rglob("*")}


@pytest.fixture
def machine(tmp_path):
    """A machine's root directory, with secrets in all the wrong places."""
    root = tmp_path / "machine"
    for directory in (
        "usr/bin",
        "etc/ssl/certs",
        "etc/profile.d/private",
        "etc/perl",
        "root",
        "home/user",
        "etc/dpkg",
        "var/lib",
    ):
        (root / directory).mkdir(parents=True)
    for name in ("bin", "lib"):
        (root / name).symlink_to(f"usr/{name}")
    secrets = ["root/.bashrc", "home/user/mail", "etc/shadow", "etc/ssl/certs/server.key", "etc/ssl/certs/SERVER.KEY"]
    secrets += [
        "etc/profile.d/shadow-",
        "etc/profile.d/private/x",
        "etc/profile.d/unreadable.sh",
        "etc/profile.d/user.sh",
    ]
    secrets += ["etc/apt-auth.conf", "etc/perl/auth.conf", "etc/perl/.netrc", "etc/unknown", "etc/dpkg/key.pem"]
    for name in secrets:
        (root / name).write_text("SECRET")
    (root / "etc/dpkg/key.pem").write_bytes(b"words\n" + PRIVATE_KEY + b"SECRET")
    (root / "etc/profile.d/private").chmod(0o700)
    (root / "etc/profile.d/unreadable.sh").chmod(0o640)
    os.chown(root / "etc/profile.d/user.sh", 1000, 1000)
    os.mkfifo(root / "etc/profile.d/fifo")
    (root / "etc/profile.d/shown.sh").write_text("shown")
    (root / "etc/profile.d/shown.sh").chmod(0o6755)
    people = "root:x:0:0:root:/root:/bin/sh\ndaemon:SECRET:1:1::/:/bin/sh\nuser:x:1000:1000:SECRET:/home/user:/bin/sh\n"
    (root / "etc/passwd").write_text(people + "nobody:x:65534:65534::/:/bin/false\n+::::::\nbad\n²:x:²:0:::\n")
    (root / "etc/group").write_text("root:x:0:\nsudo:x:27:SECRET\nuser:x:1000:\nnogroup:x:65534:\n")
    return root


@pytest.fixture
def skeleton(machine, tmp_path):
    target = tmp_path / "skeleton"
    target.mkdir()
    hostimage.write_skeleton(target, "mark", machine)
    return target


def test_no_secret_of_the_machine_is_in_it(skeleton):
    for path in skeleton.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"SECRET" not in path.read_bytes(), path
    names = entries(skeleton)
    for name in ("root", "home", "etc/shadow", "etc/unknown", "etc/profile.d/private", "etc/profile.d/fifo"):
        below = [found for found in names if found.startswith(f"{name}/")]
        assert below == [], name
    assert not {"etc/shadow", "etc/unknown", "etc/profile.d/fifo", "etc/profile.d/private"} & set(names)
    assert (skeleton / "etc/profile.d/shown.sh").read_text() == "shown"


def test_accounts_are_those_of_the_system_only(skeleton):
    accounts = (skeleton / "etc/passwd").read_text().splitlines()
    assert accounts == [
        "root:x:0:0:root:/root:/bin/sh",
        "daemon:x:1:1::/:/bin/sh",
        "nobody:x:65534:65534::/:/bin/false",
    ]
    assert (skeleton / "etc/group").read_text().splitlines() == ["root:x:0:", "sudo:x:27:", "nogroup:x:65534:"]


def test_nothing_is_privileged_or_anothers(skeleton):
    for name, status in entries(skeleton).items():
        assert (status.st_uid, status.st_gid) == (0, 0), name
        assert status.st_mtime_ns == 0, name
        assert not status.st_mode & (stat.S_ISUID | stat.S_ISGID), name
        kinds = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)
        assert any(is_kind(status.st_mode) for is_kind in kinds), name
        if not stat.S_ISLNK(status.st_mode) and stat.S_IMODE(status.st_mode) & stat.S_IWOTH:
            assert name in hostimage.SHARED_DIRECTORIES
    assert stat.S_IMODE((skeleton / "tmp").stat().st_mode) == 0o1777
    assert (skeleton / "bin").readlink() == Path("usr/bin")


def test_what_lies_behind_a_private_directory_is_not_shown(machine, tmp_path):
    (machine / "etc/ssl/certs/ca.crt").write_text("SECRET")
    (machine / "etc/ssl").chmod(0o700)
    target = tmp_path / "other"
    target.mkdir()
    hostimage.write_skeleton(target, "mark", machine)
    assert not (target / "etc/ssl").exists()


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_the_callers_umask_does_not_matter(umask, machine, skeleton, tmp_path):
    target = tmp_path / "umask"
    target.mkdir()
    before = os.umask(umask)
    try:
        hostimage.write_skeleton(target, "mark", machine)
    finally:
        os.umask(before)
    assert {name: s.st_mode for name, s in entries(target).items()} == {
        n: s.st_mode for n, s in entries(skeleton).items()
    }


def test_two_stores_give_the_same_image(tmp_path):
    one, two = (pylxc.Image.host(engine=pylxc.Engine(tmp_path / name)) for name in ("one", "two"))
    assert one.id == two.id
    assert one.layers[0].digest == two.layers[0].digest


def test_the_image_of_this_very_machine_holds_nothing_private(tmp_path):
    engine = pylxc.Engine(tmp_path / "store")
    layer = Path(engine.layer_directory(pylxc.Image.host(engine=engine).layers[0].digest))
    forbidden = re.compile(r"(\.key|shadow-?|auth\.conf|\.netrc|id_[a-z0-9]+|authorized_keys)$", re.IGNORECASE)
    for path in layer.rglob("*"):
        assert not forbidden.search(path.name), path
        if path.is_file() and not path.is_symlink():
            assert b"PRIVATE KEY-----" not in path.read_bytes(), path
            source = Path("/") / path.relative_to(layer)
            if source.name not in ("passwd", "group", ".pylxc-host"):
                assert source.lstat().st_mode & stat.S_IROTH
                assert source.lstat().st_uid == 0
    assert os.listdir(layer / "root") == os.listdir(layer / "home") == []
    seen = pylxc.run(
        "host", ["sh", "-c", "ls -A /root /home /run /srv /mnt; cat /etc/shadow"], check=False, engine=engine
    )
    assert b"No such file" in seen.stderr
    assert seen.text.split() == ["/home:", "/mnt:", "/root:", "/run:", "/srv:"]


def test_the_image_is_made_anew_when_the_machine_changes(machine):
    before = hostimage.fingerprint(machine)
    assert hostimage.fingerprint(machine) == before
    (machine / "usr/bin/new").touch()
    changed = hostimage.fingerprint(machine)
    assert changed != before
    (machine / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    assert hostimage.fingerprint(machine) != changed


def test_an_image_that_was_removed_is_made_again(tmp_path):
    engine = pylxc.Engine(tmp_path / "store")
    image = pylxc.Image.host(engine=engine)
    image.remove()
    assert pylxc.Image.host(engine=engine) == image
    assert pylxc.Image.get("host", engine=pylxc.Engine(engine.root)) == image
