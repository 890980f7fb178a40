"""What a stage does, step by step, once its variables have values.

Invariant: a step is a value, and holds all that its result depends on, except its parent and the content of the files
that it copies.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attrs import asdict, field, frozen

from pylxc.build.urls import shown
from pylxc.imageconfig import DEFAULT_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pylxc.build.instructions import Instruction
    from pylxc.build.modes import Mode
    from pylxc.build.mountflag import RunMount
    from pylxc.imageconfig import ImageConfig

DEFAULT_SHELL = ("/bin/sh", "-c")

# Given to RUN without an ARG, and then no part of the cache key: a proxy is the builder's affair, not the image's.
PROXY_ARGS = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)


@frozen
class State:
    """What the steps so far have come to.

    ``variables`` is what a RUN sees and what is put in for "$name": what ENV and ARG set, the later of the two winning;
    ``args`` are the names that ARGs have declared, in order.
    """

    config: ImageConfig
    args: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(factory=dict, hash=False)
    author: str | None = None
    command_set: bool = False  # a CMD stands in this stage, so a later ENTRYPOINT keeps it

    def lookup(self, name: str) -> str | None:
        """Give a variable's value."""
        value = self.variables.get(name)
        if value is None and name == "PATH":  # every process gets one, so that ENV PATH=$PATH:/more means what it says
            return DEFAULT_PATH
        return value

    @property
    def workdir(self) -> str:
        """The current directory, absolute."""
        return self.config.workdir or "/"

    @property
    def shell(self) -> tuple[str, ...]:
        """What runs a shell form."""
        return self.config.shell or DEFAULT_SHELL


@frozen(kw_only=True)
class Step:
    """One instruction, resolved. ``number`` counts from 1, which is FROM; ``state`` is the state after it."""

    instruction: Instruction
    number: int
    state: State

    def describe(self) -> str:
        """Give the line for the image's history."""
        raise NotImplementedError

    def definition(self) -> bytes:
        """Give canonical bytes of what the result depends on, apart from the parent and the content copied."""
        raise NotImplementedError


@frozen(kw_only=True)
class MetadataStep(Step):
    """A step that changes the configuration only. ``change`` is what it says, in JSON's types."""

    change: tuple[object, ...]
    text: str

    def describe(self) -> str:
        """Give the line for the image's history."""
        return self.text

    def definition(self) -> bytes:
        """Give canonical bytes of what the result depends on."""
        return canonical(self.instruction.name, self.change)


@frozen(kw_only=True)
class RunStep(Step):
    """A command to run. ``env`` is its whole environment as the Dockerfile gives it; ``user`` "" is root.

    ``network`` is "default" (the build's), "none" or "host"; ``insecure``: with all the rights of the builder.
    ``mounts`` are complete; ``script`` is a here-document that is run as a program, as (path, content).
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(hash=False)
    user: str
    workdir: str
    network: str = "default"
    insecure: bool = False
    mounts: tuple[RunMount, ...] = ()
    script: tuple[str, str] | None = None

    def describe(self) -> str:
        """Give the line for the image's history; ``|n`` introduces the n build arguments that were in scope."""
        args = [f"{name}={self.state.variables.get(name, '')}" for name in self.state.args]
        return " ".join(("RUN", *((f"|{len(args)}", *args) if args else ()), *self.argv))

    def definition(self) -> bytes:
        """Give canonical bytes of what the result depends on, apart from the parent."""
        declared = self.state.variables
        env = {name: value for name, value in self.env.items() if name not in PROXY_ARGS or name in declared}
        network = () if self.network == "default" else (self.network,)
        # What from= names is known by its content, not by its name.
        mounts = [asdict(mount, filter=lambda field, _: field.name != "stage") for mount in self.mounts]
        more = {"mounts": mounts, "script": self.script, "security": "insecure" if self.insecure else None}
        more = {name: value for name, value in more.items() if value}
        return canonical("RUN", self.argv, env, self.user, self.workdir, *network, *((more,) if more else ()))


@frozen(kw_only=True)
class CopyStep(Step):
    """Files to bring in: from the context, or from what ``source`` names (a stage, an image, a named context).

    ``unpack``: an ADD, which unpacks local archives.

    ``destination`` is as written once expanded: relative to ``workdir`` perhaps, and a slash at its end counts.
    ``chown`` is ``"user"`` or ``"user:group"``, names or numbers, or None for 0:0; ``chmod`` a mode or None.
    ``excludes`` are patterns of what stays out; ``documents`` are here-documents, as (file name, content).
    ``fetches``: an ADD, whose sources may be URLs; of them are ``checksum`` ("" for none), ``keep_git_dir`` and
    ``unpack_remote``.
    """

    sources: tuple[str, ...]
    destination: str
    workdir: str
    chown: str | None
    chmod: Mode | None
    unpack: bool
    excludes: tuple[str, ...] = ()
    documents: tuple[tuple[str, str], ...] = ()
    source: str | None = None
    parents: bool = False
    fetches: bool = False
    checksum: str = ""
    keep_git_dir: bool = False
    unpack_remote: bool = False

    def describe(self) -> str:
        """Give the line for the image's history."""
        flags = [f"--from={self.source}"] if self.source is not None else []
        flags += [f"--chown={self.chown}"] if self.chown is not None else []
        flags += [f"--chmod={self.chmod}"] if self.chmod is not None else []
        flags += ["--parents"] if self.parents else []
        flags += [f"--checksum={self.checksum}"] if self.checksum else []
        flags += ["--keep-git-dir=true"] if self.keep_git_dir else []
        flags += ["--unpack=true"] if self.unpack_remote else []
        documents = (f"<<{name}" for name, _ in self.documents)
        return " ".join((self.instruction.name, *flags, *self._shown(), *documents, self.destination))

    def definition(self) -> bytes:
        """Give canonical bytes of what the result depends on, apart from the parent and the files."""
        more: tuple[object, ...] = (self.excludes, self.documents) if self.excludes or self.documents else ()
        more += ("from",) if self.source is not None else ()  # whose content says more than its name
        more += ("parents",) if self.parents else ()
        more += ("unpack",) if self.unpack_remote else ()
        name = "ADD" if self.unpack else "COPY"
        mode = None if self.chmod is None else self.chmod.text
        return canonical(name, self._shown(), self.destination, self.workdir, self.chown, mode, *more)

    def _shown(self) -> tuple[str, ...]:
        """Give the sources without the passwords of URLs."""
        return tuple(shown(source) if self.fetches and "://" in source else source for source in self.sources)


@frozen(kw_only=True)
class WorkdirStep(Step):
    """A directory to make where it is missing, and ``user``'s then. ``path`` is absolute and normalised."""

    path: str
    user: str = ""

    def describe(self) -> str:
        """Give the line for the image's history."""
        return f"WORKDIR {self.path}"

    def definition(self) -> bytes:
        """Give canonical bytes of what the result depends on, apart from the parent."""
        return canonical("WORKDIR", self.path, *((self.user,) if self.user else ()))


def canonical(*parts: object) -> bytes:
    """Give JSON's types as bytes, the same for the same."""
    # Surrogates stand for bytes that are not UTF-8; ASCII escapes carry them.
    return json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
