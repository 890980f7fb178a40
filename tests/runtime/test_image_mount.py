"""Image.mount: the image's files as a directory, that nobody can write to and that nothing is left of."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

import pylxc
from tests.boxes import await_true, mounts

HOLDER = """
import sys, time, pylxc
with pylxc.Image.get(sys.argv[2], engine=pylxc.Engine(sys.argv[1])).mount() as root:
    print(root, flush=True)
    time.sleep(1000)
"""

FORKER = """
import os, sys, pylxc
with pylxc.Image.get(sys.argv[2], engine=pylxc.Engine(sys.argv[1])).mount() as root:
    pid = os.fork()
    if pid == 0:
        {leaving}
    else:
        status = os.waitpid(pid, 0)[1]
        print((root / "two").read_text(), end="")
if pid:
    print(status, not root.exists())
"""


@pytest.fixture
def image(box):
    """An image of two layers; the second one took something away."""
    with box.start("sleep", "1000") as container:
        container.exec(["sh", "-c", "echo one >/one; mkdir /d; echo below >/d/f; echo gone >/gone; ln -s /one /link"])
        lower = container.commit()
    with box.start("sleep", "1000", image=lower) as container:
        container.exec(["sh", "-c", "rm /gone; echo two >/two; rm -r /d; mkdir /d; echo above >/d/g; chmod 700 /d"])
        upper = container.commit("mounted")
    yield upper
    upper.remove()
    lower.remove()


def test_it_shows_what_a_container_would_see(box, image):
    before = mounts()
    with image.mount() as root:
        assert sorted(set(os.listdir(root)) & {"one", "two", "gone", "d", "link"}) == ["d", "link", "one", "two"]
        assert ((root / "one").read_text(), (root / "two").read_text()) == ("one\n", "two\n")
        assert os.listdir(root / "d") == ["g"]
        assert os.readlink(root / "link") == "/one"
        assert (root / "d").stat().st_mode & 0o7777 == 0o700
        listed = box.run("ls", "-A", "/", image=image).text.split()
        assert set(os.listdir(root)) <= set(listed)  # a container has places to mount on besides
        assert mounts() == before
    assert not root.exists()


def test_nobody_writes_to_it(image):
    with image.mount() as root:
        for act in (lambda: (root / "new").write_text("x"), (root / "one").unlink, lambda: (root / "one").chmod(0o777)):
            with pytest.raises(OSError, match="Read-only") as caught:
                act()
            assert caught.value.errno == errno.EROFS
    image.verify()


def test_a_link_that_leads_up_finds_nothing(box):
    with box.start("sleep", "1000") as container:
        container.exec(["sh", "-c", "ln -s ../store /up; ln -s ../../../../../.. /top; ln -s ../new /new"])
        image = container.commit()
    with image.mount() as root:
        assert not (root / "up" / "layers").exists()
        assert [name for path in (root / "top").iterdir() for name in os.listdir(path) if path.name != root.name] == []
        for path in (root / "new", root.parent / "new", root.parent / "store/new"):
            with pytest.raises(OSError, match="Read-only"):
                path.write_text("x")
    image.remove()


@pytest.mark.parametrize("leaving", ["pass", "sys.exit()"])
def test_it_is_not_the_forks(box, image, leaving):
    """A fork that leaves the block, in whatever way, leaves the view to whom it belongs, and waits for nothing."""
    command = [sys.executable, "-c", FORKER.format(leaving=leaving), str(box.engine.root), image.id]
    done = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.stdout == "two\n0 True\n"


def test_a_program_may_be_given_it(image):
    with image.mount() as root:
        done = subprocess.run(["cat", root / "two"], check=True, capture_output=True, timeout=20)
    assert done.stdout == b"two\n"


def test_a_path_that_is_resolved_leads_nowhere_else(image):
    with image.mount() as root:
        assert not root.resolve().exists()
        assert not (root / "one").resolve().exists()


def test_an_image_of_it_has_to_be_made_of_a_copy(box, image):
    with image.mount() as root, pytest.raises(pylxc.StoreError, match=r"another mount namespace.*copy it"):
        pylxc.Image.from_directory(root, engine=box.engine)


def test_what_is_open_may_be_read_to_its_end(image):
    with image.mount() as root:
        file = (root / "two").open()
    with file:
        assert file.read() == "two\n"


def test_two_at_once_and_an_exception_of_the_blocks_own(image):
    with image.mount() as one, image.mount() as other:
        assert one != other
        assert (one / "two").read_text() == (other / "two").read_text()
    with pytest.raises(ZeroDivisionError), image.mount() as root:
        raise ZeroDivisionError
    assert not root.exists()


def test_it_stays_when_the_image_is_removed_and_an_image_that_is_gone_is_none(box):
    with box.start("sleep", "1000") as container:
        container.exec(["sh", "-c", "echo kept >/kept"])
        image = container.commit()
    with image.mount() as root:
        image.remove()
        assert (root / "kept").read_text() == "kept\n"
    with pytest.raises(pylxc.ImageNotFound), image.mount():
        pass


def test_the_host_image(box):
    with pylxc.Image.host(engine=box.engine).mount() as root:
        assert (root / "usr/bin/env").stat().st_size == os.stat("/usr/bin/env").st_size
        with pytest.raises(OSError, match="Read-only"):
            (root / "usr/new").write_text("x")


def test_it_ends_with_a_caller_that_is_killed(box, image):
    command = [sys.executable, "-c", HOLDER, str(box.engine.root), image.id]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as holder:
        path = holder.stdout.readline().strip()
        try:
            assert os.path.exists(f"{path}/two")
        finally:
            holder.send_signal(signal.SIGKILL)
    await_true(lambda: not os.path.exists(f"/proc/{path.split('/')[2]}"), "the end of the view")
    tidy = [sys.executable, "-m", "pylxc", "--root", str(box.engine.root), "images"]  # who opens a store tidies it up
    subprocess.run(tidy, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
