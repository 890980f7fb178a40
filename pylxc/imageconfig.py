"""What an image says about itself: the OCI image configuration, as values.

Invariant: what this version does not know is kept, and comes back where it was; the same values give the same bytes.
Source: OCI image-spec, config.md; ``Healthcheck``, ``Shell`` and ``OnBuild`` are docker's additions to it.
"""

from __future__ import annotations

import re
import time
from typing import Any

from attrs import field, frozen

from pylxc.errors import IntegrityError

# PATH where neither an image nor a caller says one; the helper's fallback (csrc/helper/launch.c) is the same.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NANOSECONDS = 1_000_000_000
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LEAP_SECOND = 60
_TIME = r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))"


@frozen(kw_only=True)
class Healthcheck:
    """How an image's health is asked for.

    ``test`` is in the OCI form, ``("CMD-SHELL", "…")``; times are in seconds, 0 = default; ``extra`` holds the fields
    that pylxc does not know.
    """

    test: tuple[str, ...] = ()
    interval: float = 0.0
    timeout: float = 0.0
    start_period: float = 0.0
    start_interval: float = 0.0
    retries: int = 0
    extra: dict[str, Any] = field(factory=dict, hash=False, repr=False)

    def to_oci(self) -> dict[str, Any]:
        """Return it as the configuration's JSON has it: times in nanoseconds, zeros left out."""
        values: dict[str, Any] = {**self.extra, **({"Test": list(self.test)} if self.test else {})}
        for name, seconds in (
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
            ("StartInterval", self.start_interval),
        ):
            if seconds:
                values[name] = round(seconds * NANOSECONDS)
        if self.retries:
            values["Retries"] = self.retries
        return values

    @classmethod
    def from_oci(cls, values: dict[str, Any]) -> Healthcheck:
        """Return what the configuration's JSON says."""

        def seconds(name: str) -> float:
            return float(values.get(name) or 0) / NANOSECONDS

        return cls(
            test=_words(values, "Test") or (),
            interval=seconds("Interval"),
            timeout=seconds("Timeout"),
            start_period=seconds("StartPeriod"),
            start_interval=seconds("StartInterval"),
            retries=int(values.get("Retries") or 0),
            extra={name: value for name, value in values.items() if name not in _KNOWN_OF_HEALTH},
        )


@frozen(kw_only=True)
class ImageConfig:
    """What an image says about the containers made from it.

    ``cmd`` and ``entrypoint`` are None where the image has none; ``exposed_ports`` are ``"80/tcp"``; ``extra`` holds
    the fields that pylxc does not know.
    """

    env: dict[str, str] = field(factory=dict, hash=False)
    cmd: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    shell: tuple[str, ...] | None = None
    workdir: str = ""
    user: str = ""
    labels: dict[str, str] = field(factory=dict, hash=False)
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str | None = None
    healthcheck: Healthcheck | None = None
    onbuild: tuple[str, ...] = ()
    extra: dict[str, Any] = field(factory=dict, hash=False, repr=False)

    def to_oci(self) -> dict[str, Any]:
        """Return the "config" object of the configuration's JSON; what is empty is left out."""
        values: dict[str, Any] = {
            **self.extra,
            "Env": [f"{name}={value}" for name, value in self.env.items()],
            "Cmd": None if self.cmd is None else list(self.cmd),
            "Entrypoint": None if self.entrypoint is None else list(self.entrypoint),
            "Shell": None if self.shell is None else list(self.shell),
            "WorkingDir": self.workdir,
            "User": self.user,
            "Labels": self.labels,
            "ExposedPorts": {port: {} for port in self.exposed_ports},
            "Volumes": {path: {} for path in self.volumes},
            "StopSignal": self.stop_signal,
            "Healthcheck": None if self.healthcheck is None else self.healthcheck.to_oci(),
            "OnBuild": list(self.onbuild),
        }
        kept = ("Cmd", "Entrypoint")  # an empty list there is not the same as none
        return {name: value for name, value in values.items() if value or (value == [] and name in kept)}

    @classmethod
    def from_oci(cls, values: dict[str, Any]) -> ImageConfig:
        """Return what the "config" object of the configuration's JSON says."""
        pairs = (entry.partition("=") for entry in _words(values, "Env") or ())
        health = values.get("Healthcheck")
        return cls(
            env={name: value for name, _, value in pairs if name},
            cmd=_words(values, "Cmd"),
            entrypoint=_words(values, "Entrypoint"),
            shell=_words(values, "Shell"),
            workdir=_word(values, "WorkingDir"),
            user=_word(values, "User"),
            labels=dict(values.get("Labels") or {}),
            exposed_ports=tuple(sorted(values.get("ExposedPorts") or ())),
            volumes=tuple(sorted(values.get("Volumes") or ())),
            stop_signal=_word(values, "StopSignal") or None,
            healthcheck=Healthcheck.from_oci(health) if health else None,
            onbuild=_words(values, "OnBuild") or (),
            extra={name: value for name, value in values.items() if name not in _KNOWN},
        )


def _words(values: dict[str, Any], name: str) -> tuple[str, ...] | None:
    """Return a list of strings; None where there is none. Raises TypeError for a single string, too."""
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise TypeError(f"{name} is not a list of strings")
    return tuple(value)


def _word(values: dict[str, Any], name: str) -> str:
    """Return a string; "" where there is none. Raises TypeError."""
    value = values.get(name) or ""
    if not isinstance(value, str):
        raise TypeError(f"{name} is not a string")
    return value


def _digests(values: dict[str, Any]) -> tuple[str, ...]:
    """Return the diff ids. Raises ValueError for what is no digest: they name directories."""
    found = _words(values, "diff_ids") or ()
    if not all(map(_DIGEST.fullmatch, found)):
        raise ValueError("a diff id is not a SHA-256 digest")
    return found


_HANDED_ON = ("author", "os.version", "os.features")
_KNOWN_OF_HEALTH = frozenset(("Test", "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"))
_KNOWN = frozenset(
    (
        *("Env", "Cmd", "Entrypoint", "Shell", "WorkingDir", "User", "Labels", "ExposedPorts", "Volumes"),
        *("StopSignal", "Healthcheck", "OnBuild"),
    )
)


@frozen(kw_only=True)
class History:
    """One step of an image's making: ``created`` (s since the epoch, or None); ``empty_layer``: it added no layer.

    ``written`` is how the configuration that it comes from has the time: to the nanosecond, in any zone.
    """

    created: float | None = None
    created_by: str = ""
    empty_layer: bool = False
    extra: dict[str, Any] = field(factory=dict, hash=False, repr=False)
    written: str = field(default="", eq=False, repr=False)

    def to_oci(self) -> dict[str, Any]:
        """Return one element of the configuration's "history"."""
        values: dict[str, Any] = {**self.extra}
        if self.created is not None:
            is_same = self.written and parse_time(self.written) == self.created
            values["created"] = self.written if is_same else format_time(self.created)
        if self.created_by:
            values["created_by"] = self.created_by
        if self.empty_layer:
            values["empty_layer"] = True
        return values

    @classmethod
    def from_oci(cls, values: dict[str, Any]) -> History:
        """Return what one element of "history" says."""
        return cls(
            created=parse_time(values["created"]) if values.get("created") else None,
            created_by=_word(values, "created_by"),
            empty_layer=bool(values.get("empty_layer")),
            extra={name: v for name, v in values.items() if name not in ("created", "created_by", "empty_layer")},
            written=_word(values, "created"),
        )


@frozen(kw_only=True)
class ImageDocument:
    """The whole configuration of an image; its digest is the image's id. ``platform`` is ``"linux/amd64"``."""

    config: ImageConfig
    platform: str
    created: float
    diff_ids: tuple[str, ...]
    history: tuple[History, ...] = ()
    extra: dict[str, Any] = field(factory=dict, hash=False, repr=False)

    @property
    def handed_on(self) -> dict[str, Any]:
        """What images that are made of this one take over of ``extra``, as BuildKit has it."""
        return {name: self.extra[name] for name in _HANDED_ON if name in self.extra}

    @property
    def steps(self) -> tuple[str, ...]:
        """What each layer was made by, "" where the history does not say."""
        words = [entry.created_by for entry in self.history if not entry.empty_layer]
        return tuple(words) if len(words) == len(self.diff_ids) else ("",) * len(self.diff_ids)

    def to_bytes(self) -> bytes:
        """Return the canonical JSON: sorted keys, no spaces."""
        import json  # noqa: PLC0415  not needed by all who use the values

        system, architecture, *variant = self.platform.split("/")
        values = {
            **self.extra,
            "architecture": architecture,
            "config": self.config.to_oci(),
            "created": format_time(self.created),
            "history": [entry.to_oci() for entry in self.history],
            "os": system,
            "rootfs": {"diff_ids": list(self.diff_ids), "type": "layers"},
        }
        if variant:
            values["variant"] = variant[0]
        return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogateescape"
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> ImageDocument:
        """Return what a configuration says. Raises IntegrityError where it is none."""
        from pylxc.untrusted import parse_json  # noqa: PLC0415  as above

        try:
            values = parse_json(data, "surrogateescape")
            parts = (values.get("os") or "linux", values.get("architecture") or "unknown", values.get("variant"))
            known = ("architecture", "config", "created", "history", "os", "rootfs", "variant")
            return cls(
                config=ImageConfig.from_oci(values.get("config") or {}),
                platform="/".join(part for part in parts if part),
                created=parse_time(values["created"]) if values.get("created") else 0.0,
                diff_ids=_digests(values["rootfs"]),
                history=tuple(History.from_oci(entry) for entry in values.get("history") or ()),
                extra={name: value for name, value in values.items() if name not in known},
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise IntegrityError("image configuration", "the JSON of OCI image-spec, config.md", repr(error)) from error


def format_time(seconds: float) -> str:
    """Return a time as RFC 3339 in UTC, with microseconds where there are any.

    >>> format_time(0.5)
    '1970-01-01T00:00:00.5Z'
    """
    whole, micro = divmod(round(seconds * 1_000_000), 1_000_000)
    fraction = f".{micro:06d}".rstrip("0") if micro else ""
    year, month, day, hour, minute, second, *_ = time.gmtime(whole)  # strftime(3) writes the year 1 as "1"
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}{fraction}Z"


def parse_time(text: str) -> float:
    """Return the seconds since the epoch of an RFC 3339 time. Raises ValueError."""
    from datetime import datetime, timezone  # noqa: PLC0415  half the price of calendar and time.strptime

    match = re.fullmatch(_TIME, text, re.ASCII)
    if match is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    *fields, fraction, sign, hours, minutes = match.groups()
    year, month, day, hour, minute, second = map(int, fields)
    leap = second == LEAP_SECOND  # it is told as the second after it, as time(2) does
    moment = datetime(year, month, day, hour, minute, second - leap, tzinfo=timezone.utc)
    seconds = moment.timestamp() + leap + int((fraction or "").ljust(9, "0")) / NANOSECONDS
    offset = int(hours) * 3600 + int(minutes) * 60 if sign else 0
    return seconds + offset if sign == "-" else seconds - offset
