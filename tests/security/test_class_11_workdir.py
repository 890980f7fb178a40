"""Attack class 11: a working directory that is a link to the host is a directory of the container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import pylxc

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def image(image_of, canary):
    """An image with links to a place of the host's, and its configuration's WORKDIR through one of them."""

    def change(tree: Path) -> None:
        (tree / str(canary.place).lstrip("/")).mkdir(parents=True)
        (tree / "link").symlink_to(canary.place)
        (tree / "up").symlink_to(f"{'../' * 20}{canary.place}")
        (tree / "self").symlink_to("/proc/self/root")
        (tree / "cwd").symlink_to("/proc/self/cwd")

    return image_of(change)


@pytest.mark.parametrize("way", ["/link", "/up"])
def test_a_working_directory_behind_a_link_is_made_inside(cage, canary, image, way):
    look = f"pwd -P; cat secret {canary.secret}"
    for workdir in (way, f"{way}/made/new"):
        result = cage.sh(look, image=image, workdir=workdir, check=False)
        assert result.text.startswith(str(canary.place))
        assert canary.text not in result.text
    assert not canary.is_hurt()


def test_it_bites(cage, canary, image, weaken):
    """Without the resolution inside the root the directory is made on the host; then, inside, it is not there."""
    with weaken("RESOLVE"), pytest.raises(pylxc.SpawnError):
        cage.run("true", image=image, workdir="/link/made/new")
    assert canary.is_hurt()
    canary.heal()


def test_of_an_exec(cage, canary, image):
    with cage.start("sleep", "100", image=image) as container:
        with pytest.raises(pylxc.SpawnError) as caught:
            container.exec(["pwd"], workdir="/up/made")
        assert caught.value.stage == "workdir"
        result = container.exec(["sh", "-c", "pwd -P; cat secret"], workdir="/link", check=False)
        assert result.text == f"{canary.place}\n"


@pytest.mark.parametrize("workdir", ["/self", "/self/tmp", "/cwd", "/proc/1/root", "/proc/self/root/tmp"])
def test_links_of_proc_lead_nowhere(cage, canary, image, workdir):
    with pytest.raises(pylxc.SpawnError) as caught:
        cage.run("pwd", image=image, workdir=workdir)
    assert caught.value.stage == "workdir"


def test_workdir_of_an_image(engine, busybox, canary, tmp_path, mode):
    """The image's own configuration, and the builder's WORKDIR, which makes the directory."""
    (tmp_path / "Dockerfile").write_text(
        f"FROM busybox\nRUN mkdir -p {canary.place} && ln -s {canary.place} /link\nWORKDIR /link/made\nRUN touch x\n"
    )
    image = pylxc.Image.build(tmp_path, engine=engine)
    options = {"userns": "host"} if mode == "host" else {}
    assert pylxc.run(image, ["pwd", "-P"], engine=engine, **options).text == f"{canary.place}/made\n"
    assert not canary.is_hurt()
