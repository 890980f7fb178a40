"""Attack class 7: nothing that an image brings is loaded by the runtime: no library, no Python module."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

import pylxc

if TYPE_CHECKING:
    from pathlib import Path

LIBRARIES = ("libnss_files.so.2", "libnss_compat.so.2", "libc.so.6", "ld-linux-x86-64.so.2")
PLACES = ("lib", "lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
MODULES = ("sitecustomize.py", "usercustomize.py", "encodings/__init__.py", "os.py", "pylxc/__init__.py")


@pytest.fixture
def mark(tmp_path):
    """A directory that is mounted from the host: whatever trap is sprung leaves its mark in it."""
    place = tmp_path / "mark"
    place.mkdir()
    place.chmod(0o777)
    return place


@pytest.fixture(scope="session")
def trojan(tmp_path_factory):
    """A library that leaves a mark as soon as it is loaded."""
    place = tmp_path_factory.mktemp("trojan")
    mark_it = 'open("/mark/loaded", O_CREAT | O_RDWR, 0600);'
    source = f"#include <fcntl.h>\n__attribute__((constructor)) static void run(void) {{ {mark_it} }}\n"
    command = ["cc", "-shared", "-fPIC", "-o", place / "trojan.so", "-x", "c", "-"]
    subprocess.run(command, check=True, input=source.encode())
    return place / "trojan.so"


@pytest.fixture
def image(image_of, trojan):
    """An image full of traps: for libnss, for the dynamic linker, for a Python that would be started in it."""

    def plant(tree: Path) -> None:
        for place in PLACES:
            (tree / place).mkdir(parents=True, exist_ok=True)
            for name in LIBRARIES:
                shutil.copy(trojan, tree / place / name)
        (tree / "etc/nsswitch.conf").write_text("passwd: files compat\ngroup: files compat\nhosts: files\n")
        (tree / "etc/ld.so.preload").write_text("/lib/libnss_files.so.2\n")
        for directory in ("", "usr/lib/python3/dist-packages", "usr/lib/python3.11", "trap"):
            for module in MODULES:
                path = tree / directory / module
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("open('/mark/imported', 'w').close()\n")

    return image_of(plant)


ENVIRONMENT = {"LD_PRELOAD": "/lib/libc.so.6", "LD_LIBRARY_PATH": "/lib", "PYTHONPATH": "/trap", "PYTHONHOME": "/trap"}


def test_no_code_of_the_image_is_loaded(cage, image, mark):
    """In a run and in an exec, with a user to be looked up, in a directory and an environment full of traps."""
    options = {"image": image, "volumes": {mark: "/mark"}, "env": ENVIRONMENT, "workdir": "/trap"}
    for user, uid in (("nobody", "65534\n"), ("root:nogroup", "0\n")):
        assert cage.sh("id -u", user=user, **options).text == uid  # a static busybox: it loads nothing either
        assert cage.sh("id -u", user=user, init=True, **options).text == uid
    with cage.start("sleep", "100", **options) as container:
        assert container.exec(["id", "-u"], user="nobody").text == "65534\n"
        assert container.top()
    assert list(mark.iterdir()) == []


def test_the_library_is_a_trap(cage, trojan, mark, tmp_path):
    """It bites: a program that does load it leaves the mark."""
    subprocess.run(["cc", "-o", tmp_path / "loads", "-x", "c", "-"], input=b"int main(void) { return 0; }", check=True)
    volumes = {mark: "/mark", trojan: "/trojan.so", tmp_path / "loads": "/loads"}
    cage.run("/loads", image="host", env={"LD_PRELOAD": "/trojan.so"}, volumes=volumes)
    assert [path.name for path in mark.iterdir()] == ["loaded"]


def test_the_modules_are_a_trap(cage, mark, tmp_path):
    """It bites: a Python that is started in the container, under that environment, leaves the mark."""
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap/sitecustomize.py").write_text("open('/mark/imported', 'w').close()\n")
    volumes = {mark: "/mark", tmp_path / "trap": "/trap"}
    cage.run("python3", "-c", "", image="host", env={"PYTHONPATH": "/trap"}, volumes=volumes)
    assert [path.name for path in mark.iterdir()] == ["imported"]


def test_a_build_loads_none_either(engine, busybox, trojan, mark, tmp_path):
    """RUN with a user, COPY --chown by name, WORKDIR: all look at the image's user database."""
    shutil.copy(trojan, tmp_path / "libnss_files.so.2")
    lines = (
        "FROM busybox",
        "COPY libnss_files.so.2 /lib/libnss_files.so.2",
        "COPY libnss_files.so.2 /lib/libc.so.6",
        "RUN echo /lib/libnss_files.so.2 > /etc/ld.so.preload; mkdir /mark; chmod 777 /mark",
        "COPY --chown=nobody:nogroup Dockerfile /copied",
        "USER nobody",
        "WORKDIR /made",
        "RUN id -u > /tmp/uid; ls /mark > /tmp/marks",
    )
    (tmp_path / "Dockerfile").write_text("\n".join((*lines, "")))
    image = pylxc.Image.build(tmp_path, engine=engine)
    assert pylxc.run(image, ["cat", "/tmp/uid", "/tmp/marks"], engine=engine).text == "65534\n"
