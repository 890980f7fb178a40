"""The cache of a build: the same content is never made twice, another one always is."""

from __future__ import annotations

import os

import pytest

import pylxc

TEXT = "FROM busybox\nCOPY d /d/\nRUN cat /d/f > /seen\nWORKDIR /w\nADD g /g\nRUN echo last\nENV A=1\n"
LAYERED = [2, 3, 4, 5, 6]


@pytest.fixture
def build(on_busybox):
    on_busybox.write({"d/f": "f", "g": "g"})
    return on_busybox


def test_a_second_build_is_all_cache_and_the_same_image(build):
    first = build(TEXT, tag="x:1")
    assert build.cached() == []
    second = build(TEXT, tag="x:2")
    assert build.cached() == LAYERED
    assert build.output() == ""
    assert second.id == first.id
    assert second.refs == ("x:1", "x:2")
    assert [image.id for image in pylxc.Image.list(engine=build.engine)].count(first.id) == 1


def test_times_do_not_matter(build):
    first = build(TEXT)
    for path in build.files.path.rglob("*"):
        os.utime(path, (1_000_000, 1_000_000))
    assert build(TEXT).id == first.id
    assert build.cached() == LAYERED


def test_the_place_of_the_context_does_not_matter(build, tmp_path):
    first = build(TEXT)
    build.files.path.rename(tmp_path / "elsewhere")
    build.files.path = tmp_path / "elsewhere"
    assert build(TEXT).id == first.id


def test_the_store_opened_anew(build):
    first = build(TEXT)
    build.engine = pylxc.Engine(build.engine.root)
    assert build(TEXT).id == first.id
    assert build.cached() == LAYERED


def test_files_that_are_not_copied_do_not_matter(build):
    build(TEXT)
    build.write({"other": "x"})
    build(TEXT)
    assert build.cached() == LAYERED


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: (path / "d/f").write_text("F"), id="content"),
        pytest.param(lambda path: (path / "d/f").chmod(0o755), id="mode"),
        pytest.param(lambda path: (path / "d").chmod(0o700) or (path / "d/sub").mkdir(), id="directory"),
        pytest.param(lambda path: (path / "d/f").rename(path / "d/o") and (path / "d/f").symlink_to("o"), id="kind"),
        pytest.param(lambda path: (path / "d/new").symlink_to("/x"), id="link"),
    ],
)
def test_a_change_of_what_is_copied_makes_it_and_all_after_it_anew(build, change):
    build(TEXT)
    change(build.files.path)
    build(TEXT)
    assert build.cached() == []
    build(TEXT)
    assert build.cached() == LAYERED


def test_the_target_of_a_link_is_content(build):
    (build.files.path / "d/l").symlink_to("one")
    build(TEXT)
    (build.files.path / "d/l").unlink()
    (build.files.path / "d/l").symlink_to("two")
    build(TEXT)
    assert build.cached() == []


def test_a_later_change_keeps_what_is_before(build):
    build(TEXT)
    build.write({"g": "G"})
    build(TEXT)
    assert build.cached() == [2, 3, 4]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("RUN echo 1 > /x", "RUN echo 2 > /x"),
        ('RUN ["touch", "/x"]', 'RUN ["touch", "/x", "/y"]'),
        ("RUN touch /x", 'RUN ["touch", "/x"]'),
        ("ENV A=1\nRUN touch /x", "ENV A=2\nRUN touch /x"),
        ("RUN touch /x", "ENV A=1\nRUN touch /x"),
        ("ARG A=1\nRUN touch /x", "ARG A=2\nRUN touch /x"),
        ("USER 0\nRUN touch /tmp/x", "USER 1\nRUN touch /tmp/x"),
        ("WORKDIR /tmp\nRUN touch x", "WORKDIR /bin\nRUN touch x"),
        ("RUN touch /x", 'SHELL ["/bin/sh", "-ec"]\nRUN touch /x'),
        ("COPY g /g", "COPY g /h"),
        ("COPY g /g", "COPY --chmod=600 g /g"),
        ("COPY g /g", "COPY --chown=1 g /g"),
        ("COPY g /g", "ADD g /g"),
        ("COPY g /g", "WORKDIR /q\nCOPY g ./g"),
        ("WORKDIR /a", "WORKDIR /b"),
        ("RUN touch /a\nRUN touch /x", "RUN touch /b\nRUN touch /x"),
    ],
)
def test_a_change_of_the_last_step_or_its_surroundings(build, one, other):
    """Every layer that the change bears upon is made; each of the two texts is cached on its own afterwards."""
    build(f"FROM busybox\n{one}")
    build(f"FROM busybox\n{other}")
    assert (other.count("\n") + 2) not in build.cached()
    for text in (one, other):
        build(f"FROM busybox\n{text}")
        assert [event.step for event in build.events if event.kind == "output"] == []
        assert text.count("\n") + 2 in build.cached()


def test_a_build_argument_counts_only_where_it_is_declared(build):
    text = "FROM busybox\nRUN touch /before\nARG V\nRUN touch /after"
    build(text, args={"V": "1"})
    build(text, args={"V": "2"})
    assert build.cached() == [2]
    build(text, args={"V": "2", "UNKNOWN": "3"})
    assert build.cached() == [2, 4]


def test_a_proxy_does_not_count(build):
    build("FROM busybox\nRUN echo $http_proxy", args={"http_proxy": "http://one"})
    assert build.output() == "http://one\n"
    build("FROM busybox\nRUN echo $http_proxy", args={"http_proxy": "http://two"})
    assert build.cached() == [2]


def test_labels_and_commands_do_not_count(build):
    build("FROM busybox\nRUN touch /x")
    build("FROM busybox\nLABEL a=b\nCMD x\nEXPOSE 1\nRUN touch /x")
    assert build.cached() == [5]


def test_another_base_counts(build):
    build("FROM busybox\nRUN touch /x")
    build("FROM busybox\nRUN touch /base", tag="base")
    build("FROM base\nRUN touch /x")
    assert build.cached() == []


def test_the_base_by_another_name_does_not_count(build, busybox):
    build("FROM busybox\nRUN touch /x")
    busybox.tag("other:name")
    build("FROM other:name\nRUN touch /x")
    assert build.cached() == [2]


def test_no_cache_makes_every_step(build):
    text = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /now"
    first = build(text)
    second = build(text, no_cache=True)
    assert build.cached() == []
    assert first.layers[1].digest != second.layers[1].digest
    third = build(text)
    assert build.cached() == [2]
    assert third.layers[1].digest == second.layers[1].digest  # the newest counts


def test_a_failed_build_keeps_the_steps_before_it(build):
    with pytest.raises(pylxc.BuildError):
        build("FROM busybox\nRUN touch /a\nRUN touch /b\nRUN false")
    build("FROM busybox\nRUN touch /a\nRUN touch /b\nRUN true")
    assert build.cached() == [2, 3]


def test_a_removed_image_takes_its_cache_along(build):
    """A layer that is gone is not found again: the step is carried out."""
    build("FROM busybox\nRUN touch /x", tag="gone").remove()
    image = build("FROM busybox\nRUN touch /x")
    assert build.cached() == []
    assert pylxc.run(image, ["ls", "/x"], engine=build.engine).text == "/x\n"


def test_cached_layers_in_use_by_another_image_stay(build):
    build("FROM busybox\nRUN touch /x", tag="one")
    other = build("FROM busybox\nRUN touch /x\nRUN touch /y", tag="two")
    pylxc.Image.get("one", engine=build.engine).remove()
    assert pylxc.run(other, ["ls", "/x", "/y"], engine=build.engine).text == "/x\n/y\n"
    build("FROM busybox\nRUN touch /x")
    assert build.cached() == [2]
