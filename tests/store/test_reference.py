"""References: docker's short forms, what is complete, what is refused and why."""

from __future__ import annotations

import pytest

from pylxc.errors import SpecError
from pylxc.reference import Reference, is_full_id

DIGEST = "sha256:" + "a1" * 32


@pytest.fixture(autouse=True)
def as_root() -> None:
    """No test here needs root."""


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("redis", "docker.io/library/redis:latest", "redis:latest"),
        ("redis:7.2-alpine", "docker.io/library/redis:7.2-alpine", "redis:7.2-alpine"),
        ("library/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("team/app", "docker.io/team/app:latest", "team/app:latest"),
        ("docker.io/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("index.docker.io/library/redis", "docker.io/library/redis:latest", "redis:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
        ("registry.example/a/b/c:X_y.z-1", "registry.example/a/b/c:X_y.z-1", "registry.example/a/b/c:X_y.z-1"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("Registry/app", "Registry/app:latest", "Registry/app:latest"),
        (f"redis@{DIGEST}", f"docker.io/library/redis@{DIGEST}", f"redis@{DIGEST}"),
        (f"redis:7@{DIGEST}", f"docker.io/library/redis:7@{DIGEST}", f"redis:7@{DIGEST}"),
        ("a.b_c__d-e---f", "docker.io/library/a.b_c__d-e---f:latest", "a.b_c__d-e---f:latest"),
        ("a" * 247, f"docker.io/library/{'a' * 247}:latest", f"{'a' * 247}:latest"),
        ("app:" + "t" * 128, f"docker.io/library/app:{'t' * 128}", f"app:{'t' * 128}"),
    ],
)
def test_a_reference_is_complete(text, canonical, familiar):
    reference = Reference.parse(text)
    assert reference.canonical == canonical
    assert reference.familiar == str(reference) == familiar
    assert Reference.parse(canonical) == Reference.parse(familiar) == reference


def test_moves_back_are_counted():
    reference = Reference.parse("registry.example:5000/app:1@{12}")
    assert (reference.canonical, reference.before) == ("registry.example:5000/app:1", 12)
    assert Reference.parse("app@{0}") == Reference.parse("app")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a name is"),
        (" redis", "a name is"),
        ("redis ", "a name is"),
        ("redis\n", "a name is"),
        ("Redis", "lower case"),
        ("registry.example/Redis", "lower case"),
        ("re..dis", "a name is"),
        ("re___dis", "a name is"),
        ("/redis", "a name is"),
        ("redis/", "a name is"),
        ("a//b", "a name is"),
        ("../etc", "a name is"),
        ("https://registry.example/app", "a name is"),
        ("registry.example:port/app", "a name is"),
        ("registry.example:100000/app", "a name is"),
        ("registry.example:65536/app", "port is 1 to 65535"),
        ("[::1]:0/app", "port is 1 to 65535"),
        ("-host.example/app", "a name is"),
        ("redis:", "a tag is"),
        ("redis:-1", "a tag is"),
        ("redis:.1", "a tag is"),
        ("redis:a b", "a tag is"),
        ("redis:1\n", "a tag is"),
        ("redis:" + "t" * 129, "a tag is"),
        ("redis@", "a digest is"),
        ("redis@sha256:12", "a digest is"),
        (f"redis@{DIGEST.upper()}", "a digest is"),
        ("redis@{-1}", "a digest is"),
        ("redis@{}", "a digest is"),
        ("a" * 248, "255 characters"),
        ("é", "a name is"),
        (None, "as a string"),
        (b"redis", "as a string"),
    ],
)
def test_what_is_no_reference_is_refused_by_its_part(text, words):
    with pytest.raises(SpecError, match=words) as caught:
        Reference.parse(text)
    assert caught.value.value == text


def test_a_whole_id_is_no_name():
    assert is_full_id("a1" * 32)
    assert is_full_id(DIGEST)
    for text in ("a1" * 31, "A1" * 32, f"sha512:{'a1' * 32}", "a1" * 32 + "\n"):
        assert not is_full_id(text)
