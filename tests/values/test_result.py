"""What a command came to."""

import pickle

import attrs
import pytest

from pylxc.result import Result


def test_text_replaces_what_is_not_utf8_and_leaves_line_ends():
    assert Result(0, stdout=b"a\r\nb\xff\rc\n").text == "a\r\nb�\rc\n"


def test_ok_is_status_zero_only():
    assert Result(0).ok
    assert not Result(1).ok
    assert not Result(137, signal=9).ok


def test_it_is_frozen_and_survives_pickling():
    result = Result(3, stdout=b"x", duration=0.5, oom_killed=True)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        result.exit_code = 0
    assert pickle.loads(pickle.dumps(result)) == result  # noqa: S301  made one line above


def test_its_repr_does_not_hold_a_megabyte():
    assert len(repr(Result(0, stdout=b"x" * 1_000_000))) < 400
