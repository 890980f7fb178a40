"""Health checks as values: every form in which one is given, what cannot be, and what an image adds."""

from __future__ import annotations

import json
import math

import pytest

from pylxc.errors import SpecError
from pylxc.health import LONGEST_NS, OFF, check_of, is_wanted
from pylxc.imageconfig import Healthcheck, ImageConfig
from pylxc.spec import ContainerSpec

SECOND = 1_000_000_000
DOCKERS = (30 * SECOND, 30 * SECOND, 0, 5 * SECOND, 3)


def spec(value) -> ContainerSpec:
    return ContainerSpec.from_options("host", ["true"], {"healthcheck": value})


def shell(*words: str) -> ImageConfig:
    return ImageConfig(shell=words)


def option(value) -> Healthcheck | None:
    return spec(value).healthcheck


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("pg_isready || exit 1", Healthcheck(test=("CMD-SHELL", "pg_isready || exit 1"))),
        ("none", OFF),
        ("NONE", OFF),
        ({"test": ["NONE"]}, OFF),
        ({"disable": True}, OFF),
        (Healthcheck(test=("NONE",)), OFF),
        ({"test": ["CMD", "true", ""]}, Healthcheck(test=("CMD", "true", ""))),
        ({"test": "true", "disable": False}, Healthcheck(test=("CMD-SHELL", "true"))),
        ({"interval": 5}, Healthcheck(interval=5.0)),
        ({"test": None, "timeout": None, "retries": None}, Healthcheck()),
        (
            {"test": "true", "interval": "1m30s", "timeout": 0.5, "start_period": "5", "start_interval": "10ms"},
            Healthcheck(test=("CMD-SHELL", "true"), interval=90.0, timeout=0.5, start_period=5.0, start_interval=0.01),
        ),
        ({"test": ("CMD-SHELL", "true"), "retries": 7}, Healthcheck(test=("CMD-SHELL", "true"), retries=7)),
    ],
)
def test_each_form_has_one_normal_form(given, normal):
    assert option(given) == normal
    assert option(normal) == normal
    assert ContainerSpec.from_json(spec(given).to_json()) == spec(given)


def test_what_pylxc_does_not_know_of_an_images_check_may_come_along():
    taken = Healthcheck.from_oci({"Test": ["CMD", "true"], "Colour": "blue"})
    assert option(taken).extra == {"Colour": "blue"}
    assert ContainerSpec.from_json(spec(taken).to_json()).healthcheck.extra == {"Colour": "blue"}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("", "test"),
        ("  ", "test"),
        ("a\0b", "test"),
        (5, "Healthcheck"),
        (b"true", "Healthcheck"),
        (True, "Healthcheck"),
        (["CMD", "true"], "Healthcheck"),
        ({"test": ["CMD"]}, "test"),
        ({"test": ["CMD-SHELL", ""]}, "test"),
        ({"test": ["NONE", "x"]}, "test"),
        ({"test": ["true"]}, "test"),
        ({"test": ["CMD", 5]}, "test"),
        ({"test": ["CMD", "\ud800"]}, "test"),
        ({"test": b"true"}, "test"),
        ({"test": 5}, "test"),
        ({"test": "true", "intervall": 5}, "intervall"),
        ({"interval": -1}, "interval"),
        ({"interval": "-1s"}, "interval"),
        ({"interval": math.nan}, "interval"),
        ({"timeout": 0.0009}, "timeout"),
        ({"timeout": "500us"}, "timeout"),
        ({"start_period": True}, "start_period"),
        ({"start_interval": "soon"}, "start_interval"),
        ({"interval": 30 * SECOND}, "seconds"),  # as docker-py has it
        ({"retries": -1}, "retries"),
        ({"retries": 1.5}, "retries"),
        ({"retries": True}, "retries"),
        ({"retries": 2**31}, "retries"),
        ({"disable": "yes"}, "disable"),
        ({"disable": True, "test": "true"}, "disable"),
        (Healthcheck(interval=-1.0), "interval"),
        (Healthcheck(test=("CMD",)), "test"),
    ],
)
def test_what_cannot_be_is_refused_by_name(value, named):
    with pytest.raises(SpecError) as caught:
        option(value)
    assert caught.value.option == "healthcheck"
    assert caught.value.remedy
    assert named in str(caught.value)


def test_what_is_left_out_is_as_in_docker():
    check = check_of(Healthcheck(test=("CMD", "true")), ImageConfig())
    assert (check.argv, check.numbers()) == (("true",), DOCKERS)


def test_an_option_takes_what_it_leaves_out_from_the_image():
    image = ImageConfig(
        healthcheck=Healthcheck(test=("CMD", "images"), interval=1.0, timeout=2.0, start_period=3.0, retries=4)
    )
    assert check_of(None, image).numbers() == (SECOND, 2 * SECOND, 3 * SECOND, 5 * SECOND, 4)
    mine = check_of(Healthcheck(timeout=9.0, retries=1), image)
    assert (mine.argv, mine.numbers()) == (("images",), (SECOND, 9 * SECOND, 3 * SECOND, 5 * SECOND, 1))
    assert check_of(Healthcheck(test=("CMD", "mine")), image).argv == ("mine",)
    assert check_of(OFF, image) is None
    assert (is_wanted(None, image.healthcheck), is_wanted(OFF, image.healthcheck)) == (True, False)


def test_nothing_to_check():
    off = ImageConfig(healthcheck=OFF)
    for given, image in ((None, ImageConfig()), (Healthcheck(interval=1.0), ImageConfig()), (None, off)):
        assert check_of(given, image) is None
        assert not is_wanted(given, image.healthcheck)
    assert check_of(Healthcheck(test=("CMD", "true")), off).argv == ("true",)


def test_a_line_goes_to_the_images_shell():
    line = Healthcheck(test=("CMD-SHELL", "a && b"))
    assert check_of(line, ImageConfig()).argv == ("/bin/sh", "-c", "a && b")
    assert check_of(line, shell("/bin/ash", "-ec")).argv == ("/bin/ash", "-ec", "a && b")
    assert check_of(Healthcheck(test=("CMD", "a")), shell("/bin/ash")).argv == ("a",)


@pytest.mark.parametrize(
    "numbers",
    [
        '{"Interval": -1, "Timeout": -9e300, "StartPeriod": -1, "StartInterval": -1, "Retries": -5}',
        '{"Interval": NaN, "Timeout": NaN, "StartPeriod": NaN, "StartInterval": NaN, "Retries": 0}',
    ],
)
def test_numbers_of_an_image_that_are_none_count_as_not_given(numbers):
    image = ImageConfig(healthcheck=Healthcheck.from_oci({"Test": ["CMD", "true"], **json.loads(numbers)}))
    assert check_of(None, image).numbers() == DOCKERS


def test_numbers_of_an_image_have_bounds():
    huge = '{"Interval": Infinity, "Timeout": 1e308, "StartPeriod": 1e30, "StartInterval": 1, "Retries": 1e30}'
    image = ImageConfig(healthcheck=Healthcheck.from_oci({"Test": ["CMD", "true"], **json.loads(huge)}))
    assert check_of(None, image).numbers() == (LONGEST_NS, LONGEST_NS, LONGEST_NS, 1_000_000, 2**31 - 1)


@pytest.mark.parametrize(
    "test", [("CMD",), ("CMD", ""), ("CMD", "a\0b"), ("CMD", "\ud800"), ("SOMETHING", "else"), ("CMD", *["x"] * 70000)]
)
def test_an_image_whose_check_cannot_be_carried_out_has_none(test):
    assert check_of(None, ImageConfig(healthcheck=Healthcheck(test=test))) is None
    assert check_of(Healthcheck(test=("CMD-SHELL", "true")), shell("a\0b")) is None
