"""Compose files that are made to hurt: bounded bytes, memory and depth, and an error that names the place."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from pylxc.compose.files.loading import load
from pylxc.errors import ComposeError

if TYPE_CHECKING:
    from pathlib import Path

    from pylxc.compose.model import Model

SERVICE = "services: {a: {image: debian}}\n"
MEMORY = 512 << 20  # bytes of addresses that a reader may have
LAUGHS = "".join(f"x-{n}: &n{n} [{', '.join([f'*n{n - 1}'] * 10)}]\n" for n in range(1, 12))
BOMBS = {
    "laughs": f"x-0: &n0 [a, a]\n{LAUGHS}{SERVICE}",
    "laughs-merged": "x-0: &n0 {k0: v}\n"
    + "".join(
        f"x-{n}: &n{n} {{k{n}: {{<<: [*n{n - 1}, *n{n - 1}], l: [*n{n - 1}, *n{n - 1}]}}}}\n" for n in range(1, 40)
    )
    + SERVICE,
    "deep-flow": "x-a: " + "[" * 100_000 + "\n" + SERVICE,
    "deep-block": "x-a:\n" + "\n".join(" " * n + "-" for n in range(1, 2000)),
    "deep-flow-map": "x-a: " + "{a: " * 500 + "1" + "}" * 500 + "\n" + SERVICE,
    "deep-variables": f"services: {{a: {{image: '{'${A:-' * 5000}x{'}' * 5000}'}}}}\n",
    "many-values": "x-a: [" + "1," * 150_000 + "]\n" + SERVICE,
    "many-ports": "services: {a: {image: debian, ports: [" + "1-65535," * 1000 + "]}}\n",
    "not-text": "\x00\x01\x02",
    "not-utf-8": b"services: {a: {image: '\xff\xfe'}}\n",
}


def read(place: Path, text: str | bytes, **variables: str) -> Model:
    (place / "compose.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load([place / "compose.yaml"], project="app", environment=variables)


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_little_memory(tmp_path: Path, name: str) -> None:
    text = BOMBS[name]
    (tmp_path / "compose.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    program = dedent("""\
        import pathlib, sys
        from pylxc.compose.files.loading import load
        from pylxc.errors import ComposeError
        try:
            load([pathlib.Path(sys.argv[1])], environment={})
        except ComposeError as error:
            print(error.file)
        """)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "compose.yaml")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path}/compose.yaml\n", "")


def test_aliases_that_are_used_with_measure_are_fine(tmp_path: Path) -> None:
    services = "".join(f"  s{n}: {{<<: *base, hostname: s{n}}}\n" for n in range(500))
    model = read(tmp_path, f"x-base: &base {{image: debian, environment: {{A: 1, B: 2}}}}\nservices:\n{services}")
    assert len(model.services) == 500
    assert model.services["s499"]["environment"] == {"A": "1", "B": "2"}


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "compose.yaml").open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(ComposeError, match="more than 8 MiB"):
        load([tmp_path / "compose.yaml"], environment={})


@pytest.mark.parametrize("what", ["compose.yaml", ".env", "e.env", "base.yaml", "inc.yaml"])
@pytest.mark.parametrize("kind", ["fifo", "directory", "zero"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, what: str, kind: str) -> None:
    text = (
        "include: [inc.yaml]\nservices: {a: {image: debian, env_file: e.env, extends: {file: base.yaml, service: b}}}\n"
    )
    usual = {"compose.yaml": text, "e.env": "", "base.yaml": "services: {b: {image: x}}\n", "inc.yaml": "{}\n"}
    for name, content in usual.items():
        if name != what:
            (tmp_path / name).write_text(content)
    place = tmp_path / what
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "directory":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero")
    env_files = [place] if what == ".env" else None
    with pytest.raises(ComposeError) as caught:
        load([tmp_path / "compose.yaml"], environment={}, env_files=env_files)
    assert what in str(caught.value)


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "real.env").write_text("A=1\n")
    (tmp_path / "e.env").symlink_to("real.env")
    model = read(tmp_path, "services: {a: {image: debian, env_file: e.env}}\n")
    assert model.services["a"]["environment"] == {"A": "1"}


def test_a_value_of_a_variable_is_not_read_again(tmp_path: Path) -> None:
    model = read(tmp_path, "services: {a: {image: debian, user: '${A}'}}\n", A="${B}$$", B="no")
    assert model.services["a"]["user"] == "${B}$$"


def test_variables_that_grow_are_bounded(tmp_path: Path) -> None:
    long = "x" * 100_000
    with pytest.raises(ComposeError, match="characters") as caught:
        read(tmp_path, "services:\n  a:\n    image: debian\n    user: '" + "$A" * 100 + "'\n", A=long)
    assert caught.value.key == "services.a.user"


def test_files_that_include_many_are_bounded(tmp_path: Path) -> None:
    for level in range(12):
        (tmp_path / f"{level}.yaml").write_text(f"include: [{', '.join([f'{level + 1}.yaml'] * 10)}]\n")
    (tmp_path / "12.yaml").write_text("{}\n")
    with pytest.raises(ComposeError, match="name each other"):
        load([tmp_path / "0.yaml"], environment={})


def test_services_that_extend_each_other_at_length_are_bounded(tmp_path: Path) -> None:
    services = "".join(f"  s{n}: {{extends: s{n + 1}}}\n" for n in range(3000))
    with pytest.raises(ComposeError, match="extend") as caught:
        read(tmp_path, f"services:\n{services}  s3000: {{image: x}}\n")
    assert caught.value.key.endswith(".extends")


def test_a_long_chain_of_dependencies_is_no_ring(tmp_path: Path) -> None:
    services = "".join(f"  s{n}: {{image: x, depends_on: [s{n + 1}]}}\n" for n in range(3000))
    model = read(tmp_path, f"services:\n{services}  s3000: {{image: x}}\n")
    assert len(model.services) == 3001


def test_no_option_reaches_another_place(tmp_path: Path) -> None:
    """Names of services and of resources cannot be paths, and a project's name cannot either."""
    for text in ("services: {'../a': {image: x}}\n", "services: {a: {image: x}}\nvolumes: {'a/b': }\n"):
        with pytest.raises(ComposeError, match="must not have"):
            read(tmp_path, text)
    with pytest.raises(ComposeError, match="no project name"):
        load([tmp_path / "compose.yaml"], project="../x", environment={})
