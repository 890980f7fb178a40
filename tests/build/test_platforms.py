"""FROM for another platform than this machine's."""

from __future__ import annotations

import pytest

from pylxc import BuildError, ImageNotFound

OTHER = "linux/s390x"


def test_an_image_of_another_platform(build):
    build.write({"f": "f"})
    first = build(f"FROM --platform={OTHER} scratch AS one\nCOPY f /f\nFROM one\nLABEL a=b\n", tag="other")
    assert first.platform == OTHER
    second = build(f"FROM --platform={OTHER} other\nCOPY f /g\n")
    assert (second.platform, second.diff_ids[:1]) == (OTHER, first.diff_ids)


def test_its_programs_are_not_for_this_machine(build):
    build.write({"true": b"\x7fELF\x02\x02\x01" + bytes(57)})
    with pytest.raises(BuildError, match="Exec format error") as caught:
        build(f'FROM --platform={OTHER} scratch\nCOPY --chmod=755 true /true\nRUN ["/true"]\n')
    assert (caught.value.step, caught.value.exit_code) == (3, 126)


def test_what_is_here_for_this_machine_only(on_busybox):
    on_busybox("FROM busybox\n", tag="localhost:1/mine")
    with pytest.raises(ImageNotFound, match=f"FROM names it, and it is here for linux/.* only, not for {OTHER}"):
        on_busybox(f"FROM --platform={OTHER} localhost:1/mine\n")
