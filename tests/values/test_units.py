"""Sizes, durations and ages: what is read, what is refused, what is shown."""

import pytest

from pylxc.errors import SpecError
from pylxc.units import format_age, format_ago, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (0, 0),
        (1024, 1024),
        ("1024", 1024),
        ("512b", 512),
        ("1k", 1024),
        ("64K", 65536),
        ("1kb", 1024),
        ("1KiB", 1024),
        ("512m", 512 << 20),
        (" 512 MB ", 512 << 20),
        ("1.5g", 3 << 29),
        ("2t", 2 << 40),
        ("1p", 1 << 50),
        (2**63 - 1, 2**63 - 1),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_sizes_are_powers_of_1024(given, size):
    assert parse_size(given) == size


@pytest.mark.parametrize(
    "given", ["", "m", "-1", -1, "1x", "1 2", "1mm", 1.5, True, None, "\u0661k", 2**63, "99999p", "1e3", "0x10"]
)
def test_what_is_no_size_is_refused_by_name(given):
    with pytest.raises(SpecError) as caught:
        parse_size(given, "memory")
    assert (caught.value.option, caught.value.value) == ("memory", given)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (0, 0.0),
        (1.5, 1.5),
        ("90", 90.0),
        ("1.5", 1.5),
        ("1m30s", 90.0),
        ("2h", 7200.0),
        ("1h2m3s", 3723.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("100us", 1e-4),
        ("100µs", 1e-4),
        ("5ns", 5e-9),
        ("1d", 86400.0),
    ],
)
def test_durations_are_gos(given, seconds):
    assert parse_duration(given) == pytest.approx(seconds, abs=1e-15)


@pytest.mark.parametrize(
    "given", ["", "s", "-1s", -1, "1x", "1m 30s", "1m30", float("nan"), float("inf"), True, None, "\u0661s"]
)
def test_what_is_no_duration_is_refused_by_name(given):
    with pytest.raises(SpecError) as caught:
        parse_duration(given, "stop_timeout")
    assert caught.value.option == "stop_timeout"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1024, "1.02kB"),
        (117_000_000, "117MB"),
        (999_999, "1MB"),
        (2**63, "9.22EB"),
    ],
)
def test_sizes_are_shown_as_docker_shows_them(size, text):
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5399, "About an hour"),
        (5400, "2 hours"),
        (47.4 * 3600, "47 hours"),
        (47.6 * 3600, "2 days"),
        (13.9 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (61 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_ages_are_dockers_words(seconds, text):
    assert format_age(seconds) == text


def test_a_time_in_the_future_is_now():
    assert format_ago(-5) == "Less than a second ago"
    assert format_ago(301) == "5 minutes ago"
