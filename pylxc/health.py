"""How a container's health is asked for: the many ways to say it, and what an image and an option come to together.

Invariant: a :class:`Check` can be carried out as it stands, whatever an image said; what comes from a caller and cannot
is refused by name.

Source: https://docs.docker.com/reference/dockerfile/#healthcheck; moby, daemon/health.go and image/merge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pylxc.errors import SpecError
from pylxc.imageconfig import NANOSECONDS, Healthcheck
from pylxc.units import parse_duration
from pylxc.values import evolve, frozen

if TYPE_CHECKING:
    from pylxc.imageconfig import ImageConfig

TIMES = ("interval", "timeout", "start_period", "start_interval")
DEFAULTS = {"interval": 30.0, "timeout": 30.0, "start_period": 0.0, "start_interval": 5.0}  # s, docker's
DEFAULT_RETRIES = 3
SHORTEST = 0.001  # s, docker's bound
LONGEST = 1e6  # s; who gives more gives nanoseconds, as docker's own interface takes them
LONGEST_NS = 1 << 60  # csrc/pylxc.h, PYLXC_HEALTH_LONGEST
MOST_RETRIES = 2**31 - 1
MOST_WORDS = 10_000
SHELL = ("/bin/sh", "-c")
NONE, EXEC, SHELLED = "NONE", "CMD", "CMD-SHELL"
OFF = Healthcheck(test=(NONE,))
FORMS = 'give a command as a string, ["CMD", "program", "operand"], ["CMD-SHELL", "a line"], or "none"'


@frozen(kw_only=True)
class Check:
    """A check, complete: what is executed, and when. Times are in nanoseconds and positive, or start_period 0."""

    argv: tuple[str, ...]
    interval: int
    timeout: int
    start_period: int
    start_interval: int
    retries: int

    def numbers(self) -> tuple[int, int, int, int, int]:
        """Return the times and the retries in the order of ``struct pylxc_health``."""
        return self.interval, self.timeout, self.start_period, self.start_interval, self.retries


def normalise(option: str, value: Any) -> Healthcheck:
    """Return the normal form of the option. Raises SpecError."""
    if isinstance(value, str):
        return OFF if value.lower() == "none" else Healthcheck(test=_test(option, value))
    if isinstance(value, Healthcheck):
        fields = {name: getattr(value, name) for name in (*TIMES, "test", "retries", "extra")}
    elif isinstance(value, Mapping):
        fields = dict(value)
    else:
        raise SpecError(option, value, f'{FORMS}, or {{"test": ..., "interval": seconds, ...}}, or a Healthcheck')
    unknown = set(fields) - {*TIMES, "test", "retries", "extra", "disable"}
    if unknown:
        words = f"there are test, {', '.join(TIMES)}, retries and disable"
        raise SpecError(option, ", ".join(sorted(map(str, unknown))), words)
    if _is_disabled(option, fields):
        return OFF
    return Healthcheck(
        test=_test(option, fields.get("test")),
        **{name: _time(option, name, fields.get(name)) for name in TIMES},
        retries=_retries(option, fields.get("retries")),
        extra=dict(fields.get("extra") or {}),
    )


def _is_disabled(option: str, fields: Mapping[str, Any]) -> bool:
    disabled = fields.get("disable", False)
    if not isinstance(disabled, bool):
        raise SpecError(option, {"disable": disabled}, "give True or False")
    if disabled and fields.get("test"):
        raise SpecError(option, {"disable": True, "test": fields["test"]}, "give one of the two")
    return disabled


def _test(option: str, value: Any) -> tuple[str, ...]:
    """Return the command in the OCI form; () = the image's."""
    if value is None:
        return ()
    if isinstance(value, str):
        words: tuple[Any, ...] = (SHELLED, value)
    elif isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise SpecError(option, {"test": value}, FORMS)
    else:
        words = tuple(value)
    if not words:
        return ()
    if not _is_sound(words):
        raise SpecError(option, {"test": value}, f"{FORMS}; it cannot be empty or hold a NUL byte")
    return words


def _is_sound(words: tuple[Any, ...]) -> bool:
    """Say whether a test is one that can be carried out, or says that there is none."""
    if not all(isinstance(word, str) and "\0" not in word for word in words) or len(words) > MOST_WORDS:
        return False
    try:
        "".join(words).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    if words[0] == NONE:
        return len(words) == 1
    return words[0] in (EXEC, SHELLED) and len(words) > 1 and bool(words[1].strip())


def _time(option: str, name: str, value: Any) -> float:
    if value is None:
        return 0.0
    remedy = 'give seconds from 0.001 to 1000000, or a duration such as "1m30s" or "500ms"; 0 = default'
    try:
        seconds = parse_duration(value, option)
    except SpecError as error:
        raise SpecError(option, {name: value}, remedy) from error
    if seconds and not SHORTEST <= seconds <= LONGEST:
        raise SpecError(option, {name: value}, remedy)
    return seconds


def _retries(option: str, value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_RETRIES:
        raise SpecError(option, {"retries": value}, f"give an integer from 1 to {MOST_RETRIES}; 0 = default")
    return value


def merged(option: Healthcheck | None, image: Healthcheck | None) -> Healthcheck | None:
    """Return what holds where both are given: docker takes each field that the option leaves at 0 from the image."""
    if option is None or image is None:
        return image if option is None else option
    missing = {name: getattr(image, name) for name in ("test", *TIMES, "retries") if not getattr(option, name)}
    return evolve(option, **missing)


def require_test(option: Healthcheck, image: Healthcheck | None) -> None:
    """Raise SpecError where an option changes the times of a check that there is not."""
    if not option.test and (image is None or not image.test or image.test[0] == NONE):
        raise SpecError("healthcheck", option, "the image has no check of its own to change; give test as well")


def is_wanted(option: Healthcheck | None, image: Healthcheck | None) -> bool:
    """Say whether there is anything that checks. It costs next to nothing."""
    test = (option.test if option is not None else ()) or (image.test if image is not None else ())
    return bool(test) and test[0] != NONE


def check_of(option: Healthcheck | None, config: ImageConfig) -> Check | None:
    """Return the check of a container; None: there is none, or what its image says cannot be carried out."""
    found = merged(option, config.healthcheck)
    if found is None or not found.test or found.test[0] == NONE or not _is_sound(found.test):
        return None
    shell = (config.shell or SHELL) if found.test[0] == SHELLED else ()
    if shell and not _is_sound((EXEC, *shell)):
        return None
    return Check(
        argv=(*shell, *found.test[1:]),
        **{name: _nanoseconds(getattr(found, name), DEFAULTS[name]) for name in TIMES},
        retries=min(found.retries, MOST_RETRIES) if found.retries > 0 else DEFAULT_RETRIES,
    )


def _nanoseconds(seconds: float, default: float) -> int:
    """Return a time that an image may have made up: what is none (negative, NaN) counts as not given."""
    chosen = seconds if seconds > 0 else default
    if not chosen:
        return 0
    return round(min(max(chosen, SHORTEST) * NANOSECONDS, LONGEST_NS))
