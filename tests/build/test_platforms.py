"""FROM, and whole builds, for another platform than this machine's."""

from __future__ import annotations

import io

import pytest
from building import contents
from foreign import image_archive

from pylxc import BuildError, Image, ImageNotFound, SpecError
from pylxc.platforms import this_platform

OTHER = "linux/s390x"


def test_an_image_of_another_platform(build):
    build.write({"f": "f"})
    first = build(f"FROM --platform={OTHER} scratch AS one\nCOPY f /f\nFROM one\nLABEL a=b\n", tag="other")
    assert first.platform == OTHER
    second = build(f"FROM --platform={OTHER} other\nCOPY f /g\n")
    assert (second.platform, second.diff_ids[:1]) == (OTHER, first.diff_ids)


def test_the_usual_variant_is_left_out_where_it_is_shown(build):
    """And stays where the configuration has it."""
    archive = image_archive({"b": b"", "a": b""}, "arm:1", architecture="arm64", variant="v8")
    base = Image.load(io.BytesIO(archive), engine=build.engine)
    assert base.platform == "linux/arm64"
    made = build("FROM --platform=linux/arm64 arm:1\nLABEL a=b\n")
    assert (made.platform, made._document.platform) == ("linux/arm64", "linux/arm64/v8")


def test_its_programs_are_not_for_this_machine(build):
    build.write({"true": b"\x7fELF\x02\x02\x01" + bytes(57)})
    with pytest.raises(BuildError, match="Exec format error") as caught:
        build(f'FROM --platform={OTHER} scratch\nCOPY --chmod=755 true /true\nRUN ["/true"]\n')
    assert (caught.value.step, caught.value.exit_code) == (3, 126)


def test_what_is_here_for_this_machine_only(on_busybox):
    on_busybox("FROM busybox\n", tag="localhost:1/mine")
    with pytest.raises(ImageNotFound, match=f"FROM names it, and it is here for linux/.* only, not for {OTHER}"):
        on_busybox(f"FROM --platform={OTHER} localhost:1/mine\n")


def test_a_build_for_another_platform(build):
    build.write({"f": "f"})
    base = build(f"FROM --platform={OTHER} scratch\nCOPY f /base\n", tag="base")
    text = (
        "FROM --platform=$BUILDPLATFORM scratch AS tools\nCOPY f /tool\n"
        "FROM base\nARG TARGETPLATFORM BUILDPLATFORM TARGETARCH\n"
        "LABEL target=$TARGETPLATFORM arch=$TARGETARCH build=$BUILDPLATFORM\nCOPY --from=tools /tool /\n"
        "COPY --from=base /base /copy\n"
    )
    image = build(text, platform=OTHER, tag="made")
    assert (image.platform, image.diff_ids[:1]) == (OTHER, base.diff_ids)
    assert image.config.labels == {"target": OTHER, "arch": "s390x", "build": this_platform()}
    assert contents(image.layers[-1]) == {"copy": b"f"}
    assert build("FROM scratch\nCOPY f /\n", platform=OTHER).platform == OTHER
    assert not [event for event in build.events if event.kind == "warning"]


@pytest.mark.parametrize("platform", ["", None, "linux", this_platform()])
def test_a_build_for_this_one_by_name(build, platform):
    build.write({"f": "f"})
    text = "FROM scratch\nCOPY f /\nARG TARGETPLATFORM\nLABEL p=$TARGETPLATFORM\n"
    assert build(text, platform=platform).id == build(text).id
    assert build(text).config.labels == {"p": this_platform()}


def test_a_platform_that_is_none(build):
    with pytest.raises(SpecError, match="platform='linux/a b': give"):
        build("FROM scratch\nLABEL a=b\n", platform="linux/a b")


def test_what_is_here_for_this_machine_does_not_do_for_another(on_busybox):
    with pytest.raises(ImageNotFound, match=f"not for {OTHER}"):
        on_busybox("FROM busybox\nLABEL a=b\n", platform=OTHER)
    with pytest.raises(ImageNotFound, match=f"not for {OTHER}"):
        on_busybox("FROM scratch\nCOPY --from=busybox /bin/busybox /\n", platform=OTHER)
