"""The OCI image configuration: nothing is lost on the way through, the same values give the same bytes."""

from __future__ import annotations

import json

import pytest
from attrs import evolve

from pylxc.errors import IntegrityError
from pylxc.imageconfig import Healthcheck, History, ImageConfig, ImageDocument, format_time, parse_time

DIGEST = "sha256:" + "0" * 64
WHOLE = {
    "architecture": "arm64",
    "author": "somebody",
    "config": {
        "Cmd": ["-c", "x"],
        "Entrypoint": ["/bin/sh"],
        "Env": ["PATH=/bin", "EMPTY=", "EQUALS=a=b"],
        "ExposedPorts": {"53/udp": {}, "80/tcp": {}},
        "Healthcheck": {
            "Future": {"deep": [1]},
            "Interval": 30_000_000_000,
            "Retries": 3,
            "StartInterval": 500_000_000,
            "StartPeriod": 1_500_000_000,
            "Test": ["CMD-SHELL", "true"],
            "Timeout": 1,
        },
        "Labels": {"a": "b", "ü": "ö"},
        "NetworkDisabled": True,
        "OnBuild": ["RUN true"],
        "Shell": ["/bin/bash", "-c"],
        "StopSignal": "SIGQUIT",
        "User": "1000:1000",
        "Volumes": {"/data": {}},
        "WorkingDir": "/srv",
    },
    "created": "2024-02-29T12:34:56.789012Z",
    "history": [
        {"comment": "kept", "created": "2024-01-01T02:00:00.123456789+02:00", "created_by": "ADD x", "author": "me"},
        {"created_by": "ENV A=B", "empty_layer": True},
        {},
    ],
    "moby.buildkit.buildinfo.v1": "kept",
    "os": "linux",
    "os.version": "10",
    "rootfs": {"diff_ids": [DIGEST], "type": "layers"},
    "variant": "v8",
}


@pytest.fixture(autouse=True)
def as_root() -> None:
    """No test here needs root."""


def canonical(values) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parsed(**values) -> ImageDocument:
    return ImageDocument.from_bytes(canonical({"os": "linux", "rootfs": {"diff_ids": []}, **values}))


def test_everything_comes_back_where_it_was():
    assert ImageDocument.from_bytes(canonical(WHOLE)).to_bytes() == canonical(WHOLE)


def test_the_fields_mean_what_they_say():
    document = ImageDocument.from_bytes(canonical(WHOLE))
    config = document.config
    assert document.platform == "linux/arm64/v8"
    assert document.diff_ids == (DIGEST,)
    assert config.env == {"PATH": "/bin", "EMPTY": "", "EQUALS": "a=b"}
    assert (config.entrypoint, config.cmd, config.shell) == (("/bin/sh",), ("-c", "x"), ("/bin/bash", "-c"))
    assert (config.workdir, config.user, config.stop_signal) == ("/srv", "1000:1000", "SIGQUIT")
    assert (config.exposed_ports, config.volumes, config.onbuild) == (("53/udp", "80/tcp"), ("/data",), ("RUN true",))
    health = config.healthcheck
    assert (health.interval, health.timeout, health.start_period, health.start_interval) == (30.0, 1e-9, 1.5, 0.5)
    assert (health.test, health.retries) == (("CMD-SHELL", "true"), 3)
    assert [entry.empty_layer for entry in document.history] == [False, True, False]


def test_the_order_of_what_was_given_does_not_matter():
    def document(*, turned: bool) -> ImageDocument:
        def order(values):
            return dict(reversed(values.items())) if turned else values

        config = ImageConfig(labels=order({"a": "1", "b": "2"}), extra=order({"X": 1, "Y": 2}))
        return ImageDocument(config=config, platform="linux/amd64", created=1.0, diff_ids=(DIGEST,))

    assert document(turned=True).to_bytes() == document(turned=False).to_bytes()
    assert evolve(document(turned=True), created=2.0).to_bytes() != document(turned=True).to_bytes()


def test_an_empty_command_is_not_the_same_as_none():
    assert ImageConfig.from_oci({"Cmd": [], "Entrypoint": []}).to_oci() == {"Cmd": [], "Entrypoint": []}
    nothing = ImageConfig.from_oci(
        {"Cmd": None, "Env": None, "Labels": None, "Healthcheck": None, "ExposedPorts": None}
    )
    assert nothing == ImageConfig()
    assert nothing.to_oci() == {}
    assert Healthcheck().to_oci() == {}
    assert History().to_oci() == {}


def test_bytes_that_are_no_text_come_back():
    data = canonical(WHOLE).replace(b"somebody", b"some\xffbody")
    assert ImageDocument.from_bytes(data).to_bytes() == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b"[" * 200_000,
        canonical({**WHOLE, "rootfs": {"diff_ids": ["../../../etc"]}}),
        canonical({**WHOLE, "rootfs": {"diff_ids": [DIGEST + "\n"]}}),
        canonical({**WHOLE, "rootfs": {"diff_ids": [7]}}),
        canonical({**WHOLE, "rootfs": None}),
        canonical({**WHOLE, "created": "yesterday"}),
        canonical({**WHOLE, "created": 7}),
        canonical({**WHOLE, "config": ["x"]}),
        canonical({**WHOLE, "config": {"Cmd": "one string"}}),
        canonical({**WHOLE, "config": {"Env": [1]}}),
        canonical({**WHOLE, "config": {"User": 5}}),
        canonical({**WHOLE, "config": {"Labels": "x"}}),
        canonical({**WHOLE, "config": {"Healthcheck": {"Interval": "x"}}}),
        canonical({**WHOLE, "history": ["x"]}),
        canonical({**WHOLE, "history": 5}),
    ],
)
def test_what_is_no_configuration_is_refused(data):
    with pytest.raises(IntegrityError) as caught:
        ImageDocument.from_bytes(data)
    assert caught.value.subject == "image configuration"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:00.5Z", 0.5),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1969-12-31T19:30:00-04:30", 0.0),
        ("2024-02-29T12:34:56.789012345Z", 1709210096.789012345),
        ("0001-01-01T00:00:00Z", -62135596800.0),
        ("9999-12-31T23:59:59Z", 253402300799.0),
    ],
)
def test_times_are_read_in_every_zone(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1999-12-31T23:59:59.999999Z"])
def test_a_time_comes_back_as_it_was(text):
    assert format_time(parse_time(text)) == text


@pytest.mark.parametrize(
    "text", ["", "2024-01-01", "2024-01-01T00:00:00", "2024-13-01T00:00:00Z", "2024-01-01T25:00:00Z"]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  the words are the standard library's
        parse_time(text)


def test_a_document_without_a_date_or_a_machine_is_read():
    document = parsed()
    assert (document.created, document.platform, document.history) == (0.0, "linux/unknown", ())
