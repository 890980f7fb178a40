"""What is read and not carried out yet is refused by name, with its place and what to do instead."""

from __future__ import annotations

import pytest

from pylxc.build.dockerfile import parse
from pylxc.build.plan import plan
from pylxc.errors import DockerfileError, UnsupportedError
from pylxc.imageconfig import ImageConfig


@pytest.mark.parametrize(
    ("line", "column", "feature"),
    [
        ("RUN --device=a true", 14, "RUN --device"),
    ],
)
def test_before_anything_is_planned(line, column, feature):
    made = parse(f"FROM a\n# note\nRUN true\n{line}")  # it is read
    with pytest.raises(UnsupportedError) as caught:
        list(plan(made).steps(ImageConfig()))
    assert caught.value.feature == feature
    assert caught.value.remedy.startswith("comes in a later version of pylxc; until then ")
    assert caught.value.remedy.endswith(f" (Dockerfile:4:{column})")


def test_platforms():
    own = plan(parse("FROM --platform=$BUILDPLATFORM a")).base
    assert own == plan(parse("ARG P=$TARGETPLATFORM\nFROM --platform=${P} a")).base == "a"
    assert plan(parse("FROM --platform=$BUILDPLATFORM a")).origin.platform == ""
    assert plan(parse("FROM --platform=linux/riscv64 a AS b\nFROM b")).origin.platform == "linux/riscv64"
    with pytest.raises(DockerfileError, match="bad platform ''"):
        plan(parse("FROM --platform=$NONE a"))


@pytest.mark.parametrize(
    "text",
    [
        "RUN --network=none true",
        "RUN --network=host --security=sandbox true",
        "RUN --security=insecure true",
        "RUN --mount=type=cache,target=/x true",
        "RUN <<EOF\n#!/bin/sh\nEOF",
        "RUN <<EOF\necho\nEOF",
        "RUN cat <<EOF\n#!/bin/sh\nEOF",
        "COPY --chmod=u=rwX,go=rX a b",
        "COPY --link --chmod=0755 --exclude=x a b",
        "ADD --unpack=false a b",
        "COPY --parents a/./b c /d/",
        "ADD --keep-git-dir=true git@example.org:x /x",
        "ADD a https://example.org/x ssh://example.org/x.git#v1:d /x/",
        "HEALTHCHECK CMD a",
        "ONBUILD COPY --from=x a b",
    ],
)
def test_what_is_carried_out(text):
    assert len(list(plan(parse(f"FROM a\n{text}")).steps(ImageConfig()))) == 1
