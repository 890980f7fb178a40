"""Builds that are written in Python: each call adds an instruction, the text of a Dockerfile comes out.

Hides the quoting of Dockerfiles. Invariant: what is said here is what the build is told, whatever characters it has; it
is parsed, planned and cached as the same Dockerfile would be.
"""

from __future__ import annotations

import io
import json
import os
import re
from typing import TYPE_CHECKING, Any

from pylxc.errors import SpecError
from pylxc.units import format_decimal
from pylxc.values import evolve, field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pylxc.image import Image

    Command = str | Sequence[str]
    Path = str | os.PathLike[str]

_LITERAL = re.compile(r"""[\\$'"]""")
_BLANK = re.compile(r"\s")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HAZARDS = re.compile(r"""\A[\s\[-]|<<|\\\s*\Z|\s\Z|\A#|[\n\r]""")


@frozen
class Build:
    """A build without a Dockerfile: a chain of instructions, carried out by :meth:`build`.

    Every call gives a new value and leaves the old one as it was, so that several builds may begin alike. The
    instructions and what they mean are those of a Dockerfile, and so is the cache. Values are taken as they are; with
    ``expand=True`` they are those of a Dockerfile, where ``$NAME`` stands for what ARG and ENV set. ``str()`` gives the
    Dockerfile.

    Args:
        context: what :meth:`copy` and :meth:`add` take files from, as in :meth:`Image.build`; None: there are none.

    Raises:
        SpecError: an operand that no Dockerfile can hold; it names the instruction.

    Example:
        >>> base = pylxc.Build("app").from_("debian:bookworm").run("apt-get update && apt-get -y install redis-server")
        >>> image = base.copy("redis.conf", "/etc/redis/").expose(6379).cmd(["redis-server"]).build("redis:seed")
        ... # doctest: +SKIP

    Source: Dockerfile reference, https://docs.docker.com/reference/dockerfile/.

    """

    context: Any = None
    _lines: tuple[str, ...] = field(default=(), alias="lines", repr=False)

    def __str__(self) -> str:
        """Return the Dockerfile."""
        return "".join(f"{line}\n" for line in self._lines)

    # -- stages -----------------------------------------------------------------------------------------------------

    def from_(self, image: str, name: str | None = None, *, platform: str | None = None, expand: bool = False) -> Build:
        """Begin a stage on an image, an earlier stage or "scratch"; ``name`` is what later ones call it.

        >>> print(Build().from_("golang:1.22", "builder"), end="")
        FROM golang:1.22 AS builder
        """
        flags = _flags("FROM", expand=expand, platform=platform)
        alias = () if name is None else ("AS", _word("FROM", name))
        return self._add("FROM", *flags, _word("FROM", image, expand=expand), *alias)

    def arg(self, name: str, default: str | None = None, *, expand: bool = False) -> Build:
        """Declare a build argument (ARG), given by ``args=`` of :meth:`build`."""
        default_text = "" if default is None else f"={_quoted('ARG', default, expand=expand)}"
        return self._add("ARG", _name("ARG", name) + default_text)

    # -- steps ------------------------------------------------------------------------------------------------------

    def run(
        self,
        command: Command,
        *,
        mounts: Sequence[str] = (),
        network: str | None = None,
        security: str | None = None,
    ) -> Build:
        r"""Run a command: a text for the shell (of several lines, too), or a list of arguments.

        ``mounts`` are those of a Dockerfile, such as "type=cache,target=/root/.cache".

        >>> print(Build().from_("busybox").run("make\nmake install"), end="")
        FROM busybox
        RUN <<'EOF'
        make
        make install
        EOF
        """
        flags = [f"--mount={_word('RUN', mount)}" for mount in mounts]
        flags += _flags("RUN", network=network, security=security)
        if not isinstance(command, str):
            return self._add("RUN", *flags, _json("RUN", command))
        if not command.strip():
            raise SpecError("RUN", command, "there is nothing to run")
        _check("RUN", command)
        if not _HAZARDS.search(command):
            return self._add("RUN", *flags, command)
        return self._add("RUN", *flags, _document(command))

    def copy(  # noqa: PLR0913  one for each flag
        self,
        *paths: Path,
        from_: str | None = None,
        chown: str | None = None,
        chmod: str | int | None = None,
        link: bool = False,
        parents: bool = False,
        exclude: Sequence[str] = (),
        expand: bool = False,
    ) -> Build:
        """Copy files and directories of the context, or of the stage or image ``from_``; the last path is where to.

        Sources may be patterns. ``chmod``: a number, or as chmod(1) has it.

        >>> print(Build(".").from_("scratch").copy("my app", "/app", chmod=0o755), end="")
        FROM scratch
        COPY --chmod=755 ["my app", "/app"]
        """
        flags = _flags("COPY", expand=expand, from_=from_, chown=chown, chmod=_mode(chmod), link=link, parents=parents)
        return self._add(
            "COPY", *flags, *_each("exclude", "COPY", exclude, expand=expand), _paths("COPY", paths, expand)
        )

    def add(  # noqa: PLR0913  one for each flag
        self,
        *paths: Path,
        checksum: str | None = None,
        keep_git_dir: bool = False,
        unpack: bool | None = None,
        chown: str | None = None,
        chmod: str | int | None = None,
        link: bool = False,
        exclude: Sequence[str] = (),
        expand: bool = False,
    ) -> Build:
        """Add archives, which are unpacked, URLs and repositories; the last path is where to."""
        unpacked = None if unpack is None else str(unpack).lower()
        flags = _flags("ADD", expand=expand, checksum=checksum, keep_git_dir=keep_git_dir, unpack=unpacked, chown=chown,
                       chmod=_mode(chmod), link=link)  # fmt: skip
        return self._add("ADD", *flags, *_each("exclude", "ADD", exclude, expand=expand), _paths("ADD", paths, expand))

    def workdir(self, path: Path, *, expand: bool = False) -> Build:
        """Set the working directory, and make it where it is missing."""
        return self._add("WORKDIR", _quoted("WORKDIR", os.fspath(path), expand=expand))

    # -- configuration ----------------------------------------------------------------------------------------------

    def env(self, variables: Mapping[str, str] | None = None, /, *, expand: bool = False, **more: str) -> Build:
        r"""Set environment variables, by a mapping or by name.

        >>> print(Build().from_("scratch").env(PRICE="5 $"), end="")
        FROM scratch
        ENV PRICE="5 \$"
        """
        return self._add("ENV", *_pairs("ENV", {**(variables or {}), **more}, expand=expand))

    def label(self, labels: Mapping[str, str] | None = None, /, *, expand: bool = False, **more: str) -> Build:
        """Set labels, by a mapping or by name."""
        return self._add("LABEL", *_pairs("LABEL", {**(labels or {}), **more}, expand=expand))

    def cmd(self, command: Command) -> Build:
        """Say what runs unless something else is given: a text for the shell, or a list of arguments."""
        return self._add("CMD", _command("CMD", command))

    def entrypoint(self, command: Command) -> Build:
        """Say what always runs: a list of arguments, which those of a run are added to, or a text for the shell."""
        return self._add("ENTRYPOINT", _command("ENTRYPOINT", command))

    def user(self, user: str, *, expand: bool = False) -> Build:
        """Set the user that later steps and containers run as: "name", "1000", "name:group"."""
        return self._add("USER", _word("USER", user, expand=expand))

    def expose(self, *ports: int | str) -> Build:
        """Say which ports are listened on: 80, "53/udp", "8000-8010"."""
        return self._add("EXPOSE", *(_word("EXPOSE", str(port)) for port in ports))

    def volume(self, *paths: Path, expand: bool = False) -> Build:
        """Say which directories have their own volume in each container."""
        return self._add("VOLUME", _json("VOLUME", [_text("VOLUME", path, expand=expand) for path in paths]))

    def shell(self, argv: Sequence[str]) -> Build:
        """Say what runs texts for the shell from here on."""
        return self._add("SHELL", _json("SHELL", argv))

    def stop_signal(self, signal: str | int) -> Build:
        """Say which signal ends a container: "SIGTERM", or a number."""
        return self._add("STOPSIGNAL", _word("STOPSIGNAL", str(signal)))

    def healthcheck(  # noqa: PLR0913  one for each flag
        self,
        command: Command | None,
        *,
        interval: float | None = None,
        timeout: float | None = None,
        start_period: float | None = None,
        start_interval: float | None = None,
        retries: int | None = None,
    ) -> Build:
        """Say how a container's health is checked; None: not at all. Times are in seconds."""
        if command is None:
            return self._add("HEALTHCHECK", "NONE")
        flags = _flags(
            "HEALTHCHECK",
            interval=_seconds(interval),
            timeout=_seconds(timeout),
            start_period=_seconds(start_period),
            start_interval=_seconds(start_interval),
            retries=None if retries is None else str(retries),
        )
        return self._add("HEALTHCHECK", *flags, "CMD", _command("HEALTHCHECK", command))

    def instruction(self, text: str) -> Build:
        """Add an instruction as a Dockerfile has it, such as "ONBUILD COPY . /app".

        Raises DockerfileError when it is none, SpecError when it is several.
        """
        from pylxc.build.dockerfile import parse  # noqa: PLC0415  only for builds

        parsed = parse(f"FROM scratch\n{text}\n", f"instruction {text[:40]!r}")
        if len(parsed.instructions) != 2:  # noqa: PLR2004  that FROM, and it
            raise SpecError("instruction", text, "give one instruction")
        return evolve(self, lines=(*self._lines, text.rstrip("\n")))

    # -- the build --------------------------------------------------------------------------------------------------

    def build(self, tag: str | Sequence[str] | None = None, **options: Any) -> Image:
        """Build the image. ``options`` are those of :meth:`Image.build`, and so are the errors."""
        from pylxc.image import Image  # noqa: PLC0415  only for builds

        text = io.BytesIO(str(self).encode("utf-8"))
        if self.context is None:
            return Image.build(text, tag=tag, **options)
        return Image.build(self.context, text, tag=tag, **options)

    def _add(self, *words: str) -> Build:
        if len(words) == 1:
            raise SpecError(words[0], (), "it needs an operand")
        return evolve(self, lines=(*self._lines, " ".join(words)))


# -- quoting -----------------------------------------------------------------------------------------------------------


def _check(instruction: str, text: str) -> str:
    if not isinstance(text, str):
        raise SpecError(instruction, text, "it must be a string")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise SpecError(instruction, text, "it is no text") from None
    if "\0" in text:
        raise SpecError(instruction, text, "it holds a NUL character")
    return text


def _line(instruction: str, text: str) -> str:
    if "\n" in _check(instruction, text) or "\r" in text:
        raise SpecError(instruction, text, "a Dockerfile's instruction is one line; COPY a file, or use RUN")
    return text


def _escaped(text: str, *, expand: bool) -> str:
    """Protect what has a meaning where variables are put in."""
    return text if expand else _LITERAL.sub(r"\\\g<0>", text)


def _word(instruction: str, text: str, *, expand: bool = False) -> str:
    """Return a word: it stands between blanks."""
    text = _line(instruction, text)
    if not text or _BLANK.search(text):
        raise SpecError(instruction, text, "it must be one word")
    return _escaped(text, expand=expand)


def _text(instruction: str, text: Path, *, expand: bool = False) -> str:
    """Return an element of a JSON array."""
    return _escaped(_line(instruction, os.fspath(text)), expand=expand)


def _quoted(instruction: str, text: str, *, expand: bool) -> str:
    """Return a value between double quotes."""
    text = _line(instruction, text)
    if expand:
        return '"' + text.replace('"', '\\"') + '"'
    # Within double quotes a single quote is a character like others, and a backslash before it, too.
    return '"' + re.sub(r'[\\$"]', r"\\\g<0>", text) + '"'


def _name(instruction: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SpecError(instruction, name, "a name has letters, digits and underscores, and begins with no digit")
    return name


def _pairs(instruction: str, pairs: Mapping[str, str], *, expand: bool) -> list[str]:
    name_of = _name if instruction == "ENV" else _label_name
    return [f"{name_of(instruction, key)}={_quoted(instruction, value, expand=expand)}" for key, value in pairs.items()]


def _label_name(instruction: str, name: str) -> str:
    if not name or "=" in name:
        raise SpecError(instruction, name, "a label's name is not empty, and has no '='")
    return _quoted(instruction, name, expand=False) if _BLANK.search(name) or _LITERAL.search(name) else name


def _json(instruction: str, argv: Sequence[str]) -> str:
    words = [_check(instruction, word) for word in argv]
    return json.dumps(words, ensure_ascii=False)


def _command(instruction: str, command: Command) -> str:
    if not isinstance(command, str):
        return _json(instruction, command)
    text = _line(instruction, command)
    if not text.strip() or _HAZARDS.search(text):
        raise SpecError(instruction, text, "no Dockerfile can say that as a text; give a list, as in ['sh', '-c', …]")
    return text


def _document(script: str) -> str:
    """Return a here-document: a script whose characters mean nothing before the shell reads them."""
    lines, mark = script.split("\n"), "EOF"
    while mark in lines:
        mark += "_"
    end = "" if script.endswith("\n") else "\n"
    return f"<<'{mark}'\n{script}{end}{mark}"


def _mode(mode: str | int | None) -> str | None:
    return f"{mode:o}" if isinstance(mode, int) else mode


def _seconds(time: float | None) -> str | None:
    return None if time is None else f"{format_decimal(time)}s"


def _flags(instruction: str, *, expand: bool = False, **flags: str | bool | None) -> list[str]:
    """Return flags; those that are None or False are left out."""
    found = []
    for key, value in flags.items():
        name = key.strip("_").replace("_", "-")
        if value is True:
            found.append(f"--{name}")
        elif value:
            found.append(f"--{name}={_word(instruction, value, expand=expand)}")
        elif value == "":
            raise SpecError(instruction, value, f"--{name} needs a value")
    return found


def _each(flag: str, instruction: str, values: Sequence[str], *, expand: bool) -> list[str]:
    return [f"--{flag}={_word(instruction, value, expand=expand)}" for value in values]


def _paths(instruction: str, paths: Sequence[Path], expand: bool) -> str:  # noqa: FBT001  handed on
    if len(paths) < 2:  # noqa: PLR2004  from, to
        raise SpecError(instruction, paths, "give a source, or several, and a destination")
    return _json(instruction, [_text(instruction, path, expand=expand) for path in paths])
