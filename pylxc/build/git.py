"""Repositories as sources: the commit that a name means, and the files of that commit.

Hides the git program. Invariant: git runs without the user's configuration, without a terminal, hooks, filters and
helpers, speaks with servers alone (https, http, ssh, git), and never writes a working tree: files come out as a tar
stream, which the unpacker holds to its rules. The same commit gives the same files, with the commit's time.

Source: Docker documentation, "Git repositories" of "Build context"; git(1), gitattributes(5), gitsubmodules(7).
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
import shlex
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import urljoin

from pylxc.build.confined import ContextError
from pylxc.build.repository import SCP, Repository
from pylxc.registry.problems import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Unpack = Callable[[str, Callable[[BinaryIO], object]], object]

PROTOCOLS = "http:https:ssh:git"
LARGEST_PACK = 1 << 34  # bytes of one file that git writes
LARGEST_LISTING = 64 << 20  # bytes of what a server lists, or a tree
FETCH_TIMEOUT = 1800.0  # s
ASK_TIMEOUT = 120.0
_DEEPEST = 8  # submodules in each other
_MOST_SUBMODULES = 256
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_TAIL = 2000  # characters of what git says

# The user's repository may have attributes; none of them is to leave files out or to change them by commit.
_ATTRIBUTES = "* -export-ignore -export-subst\n"
_CONFIG = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.alternateRefsCommand=",
    "core.autocrlf=false",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "init.defaultBranch=main",
    "maintenance.auto=false",
    "pack.threads=1",
    "tar.umask=0022",
    "protocol.version=2",
)
_PASSED_ON = (
    "PATH", "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH",
)  # fmt: skip


class Git:
    """Runs git for one purpose: ``directory`` is an empty one of its own, for the repository and all that git writes.

    ``agent``: the socket of an ssh agent that may be used; "" for the user's keys without an agent; None for no key at
    all. The user's configuration of ssh counts unless it is None.
    ``protocols``: which git may speak.
    """

    def __init__(self, directory: str, *, agent: str | None = None, protocols: str = PROTOCOLS) -> None:
        self._directory = directory
        self.repository = f"{directory}/git"
        self._agent = agent
        self._protocols = protocols

    def resolve(self, source: Repository) -> str:
        """Return the commit that is meant. Asks the server, unless it is named by its whole id.

        Raises :class:`ContextError` where there is none, and where it is another one than the source says.
        """
        commit = self._resolve(source)
        if not commit.startswith(source.commit):
            raise ContextError(
                source.shown(), f"{source.ref} is the commit {commit}, not {source.commit} as its URL says"
            )
        return commit

    def _resolve(self, source: Repository) -> str:
        if _COMMIT.fullmatch(source.ref):
            return source.ref
        wanted = _names(source.ref)
        listed = self._output(source, ASK_TIMEOUT, "ls-remote", "--", source.remote, *wanted)
        found = {name: commit for commit, _, name in (line.partition("\t") for line in listed.splitlines())}
        for name in wanted:
            if _COMMIT.fullmatch(found.get(name, "")):
                return found[name]
        remedy = "name a branch, a tag or a whole commit id" if source.ref else "it is empty"
        raise ContextError(source.shown(), f"has no {source.ref or 'HEAD'!r}: {remedy}")

    def fetch(self, source: Repository, commit: str) -> None:
        """Fetch a commit: alone where the server does that, else with all that branches and tags lead to."""
        self._output(source, ASK_TIMEOUT, "init", "-q", "--bare", "--template=", *_format(commit), self.repository)
        os.makedirs(f"{self.repository}/info", exist_ok=True)  # noqa: PTH103
        Path(self.repository, "info/attributes").write_text(_ATTRIBUTES)
        get = ("fetch", "-q", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
        shallow = (*get, "--depth=1", "--", source.remote, f"+{commit}:refs/heads/fetched")
        if self._call(source, FETCH_TIMEOUT, *shallow)[0] == 0:
            return
        everything = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        self._output(source, FETCH_TIMEOUT, *get, "--", source.remote, *everything)
        if self._call(source, ASK_TIMEOUT, "cat-file", "-e", f"{commit}^{{commit}}")[0]:
            raise ContextError(source.shown(), f"has no commit {commit}, or no branch and no tag leads to it")

    def time(self, source: Repository, commit: str) -> int:
        """Return the time of a fetched commit (s since the epoch)."""
        text = self._output(source, ASK_TIMEOUT, "show", "-s", "--no-show-signature", "--format=%ct", commit)
        return max(0, int(text)) if text.strip().isdigit() else 0

    def write_tar(self, source: Repository, commit: str, out: BinaryIO) -> None:
        """Write the files of a fetched commit as a tar stream, those below ``subdir`` with it before their names."""
        paths = ("--", source.subdir) if source.subdir else ()
        status, said = self._call(source, FETCH_TIMEOUT, "archive", "--format=tar", commit, *paths, out=out)
        if status in (-signal.SIGPIPE, 128 + signal.SIGPIPE):
            raise BrokenPipeError(source.shown())  # the unpacker stopped: it says why
        if status:
            missing = "did not match any files" in said
            words = f"has no directory {source.subdir!r} in {commit}" if missing else f"cannot be read: {said}"
            raise ContextError(source.shown(), words)

    def submodules(self, source: Repository, commit: str) -> Iterator[tuple[str, Repository]]:
        """Yield the path of each submodule of a fetched commit, and what belongs there. Only those below ``subdir``."""
        paths = ("--", source.subdir) if source.subdir else ()
        listed = self._output(source, ASK_TIMEOUT, "ls-tree", "-r", "-z", commit, *paths)
        links = [line.split("\t", 1) for line in listed.split("\0") if line.startswith("160000 ")]
        if not links:
            return
        status, said = self._call(source, ASK_TIMEOUT, "config", "--blob", f"{commit}:.gitmodules", "-z", "--list")
        urls = _urls(said) if status == 0 else {}
        for facts, path in links:
            if path in urls:  # one that is named nowhere is an empty directory, as with git
                found = Repository(_joined(source.remote, urls[path]), facts.split(" ")[2])
                _check_submodule(source, found)
                yield path, found

    def tidy(self, source: Repository, commit: str) -> None:
        """Make of the fetched repository what two machines have alike, and what a working tree needs (``.git``)."""
        run = functools.partial(self._output, source, FETCH_TIMEOUT)
        run("update-ref", "--no-deref", "HEAD", commit)
        run("config", "--unset", "core.bare")
        run("config", "remote.origin.url", source.shown())
        run("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
        run("repack", "-q", "-a", "-d", "-f", "--depth=50", "--window=10")
        run("pack-refs", "--all")
        run("read-tree", commit)  # an index without times and inodes
        Path(self.repository, "info/attributes").unlink()
        for name in ("FETCH_HEAD", "objects/info/packs", "info/refs"):
            Path(self.repository, name).unlink(missing_ok=True)

    def _output(self, source: Repository, timeout: float, *words: str) -> str:
        status, said = self._call(source, timeout, *words)
        if status:
            raise ContextError(source.shown(), f"git {words[0]} failed: {said}")
        return said

    def _call(self, source: Repository, timeout: float, *words: str, out: BinaryIO | None = None) -> tuple[int, str]:
        """Run git; return its status, and its output where that is 0, what it complains of where not."""
        import resource  # noqa: PLC0415  only for repositories

        options = [word for item in _CONFIG for word in ("-c", item)]
        argv = ["git", *options, f"--git-dir={self.repository}", *words]
        limit = LARGEST_PACK if timeout == FETCH_TIMEOUT else LARGEST_LISTING
        with open(f"{self._directory}/output", "wb+") as kept:  # noqa: PTH123
            try:
                child = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=out or kept, stderr=subprocess.PIPE, cwd=self._directory,
                    env=self._environment(), start_new_session=True, umask=0o022,
                )  # fmt: skip
            except FileNotFoundError:
                reason = "git is not installed, and fetches repositories: install it (Debian: apt-get install git)"
                raise ContextError(source.shown(), reason) from None
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (limit, limit))
            complaint = _wait(child, timeout, source)
            if child.returncode == 0:
                kept.seek(0)
                return 0, os.fsdecode(kept.read())
        if child.returncode in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ):
            complaint = f"more than the {limit} bytes that are allowed"
        return child.returncode, complaint or f"git ended with {child.returncode}"

    def _environment(self) -> dict[str, str]:
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        ssh = ["ssh", "-oBatchMode=yes", "-oForwardAgent=no", "-oPermitLocalCommand=no", "-oClearAllForwardings=yes"]
        ssh += ["-oControlMaster=no", "-oControlPath=none"]  # nothing that stays behind
        if self._agent:
            passed["SSH_AUTH_SOCK"] = self._agent
        if self._agent is None:
            ssh += ["-F/dev/null", "-oIdentityAgent=none", "-oIdentityFile=/dev/null", "-oIdentitiesOnly=yes"]
        return {
            "PATH": os.defpath,
            **passed,
            "HOME": self._directory,
            "LC_ALL": "C",
            "GIT_ALLOW_PROTOCOL": self._protocols,
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_SSH_COMMAND": shlex.join(ssh),
            "GIT_SSH_VARIANT": "ssh",
            "GIT_TERMINAL_PROMPT": "0",
        }


def export(git: Callable[[], Git], source: Repository, commit: str, unpack: Unpack) -> Git:
    """Fetch a commit, and give ``unpack`` its files: a path below the top, and a function that writes a tar stream.

    Its submodules come after it, each with its own call. Returns the git that has the repository itself.
    """
    left = [(0, "", source, commit)]
    first, count = None, 0
    while left:
        depth, place, repository, wanted = left.pop()
        count += 1
        if depth > _DEEPEST or count > _MOST_SUBMODULES:
            raise ContextError(
                source.shown(), f"has more submodules than are allowed ({_MOST_SUBMODULES}), or too deep"
            )
        here = git()
        first = first or here
        here.fetch(repository, wanted)
        unpack(place, functools.partial(here.write_tar, repository, wanted))
        for path, module in here.submodules(repository, wanted):
            left.append((depth + 1, posixpath.join(place, path), module, module.ref))
    return cast("Git", first)


def _wait(child: subprocess.Popen[bytes], timeout: float, source: Repository) -> str:
    """Wait for git, and for whatever it started; return the last of what it complained of."""
    tail = bytearray()
    ended = threading.Event()

    def read() -> None:
        assert child.stderr is not None  # noqa: S101
        while data := child.stderr.read1(1 << 16):  # type: ignore[attr-defined]
            tail.extend(data)
            del tail[:-_TAIL]
        ended.set()

    reader = threading.Thread(target=read, name="pylxc-git", daemon=True)
    reader.start()
    is_over = False
    try:
        with suppress(subprocess.TimeoutExpired):
            is_over = ended.wait(timeout) and child.wait(timeout) is not None
    finally:
        if not is_over:
            os.killpg(child.pid, signal.SIGKILL)  # it is not waited for yet, so the number is still its own
            child.wait()
        reader.join()
        if child.stderr is not None:
            child.stderr.close()
    if not is_over:
        raise ContextError(source.shown(), f"git took longer than {timeout:.0f} s: try again later")
    return clean(os.fsdecode(bytes(tail)))


def _names(ref: str) -> list[str]:
    """Return the references that a name may mean, the one that counts most first, as git checkout has it."""
    if not ref:
        return ["HEAD"]
    full = [f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"]
    return [f"{ref}^{{}}", ref, *full] if ref.startswith("refs/") or ref == "HEAD" else full


def _format(commit: str) -> tuple[str, ...]:
    return ("--object-format=sha256",) if len(commit) == 64 else ()  # noqa: PLR2004  hex digits


def _urls(listed: str) -> dict[str, str]:
    """Return the URLs of a ``.gitmodules`` by path."""
    facts: dict[str, dict[str, str]] = {}
    for item in listed.split("\0"):
        key, _, value = item.partition("\n")
        section, _, rest = key.partition(".")
        name, _, variable = rest.rpartition(".")
        if section == "submodule" and variable in ("path", "url"):
            facts.setdefault(name, {})[variable] = value
    return {one["path"]: one["url"] for one in facts.values() if len(one) == 2}  # noqa: PLR2004  both


def _joined(remote: str, url: str) -> str:
    """Return a submodule's URL, which may be relative to the repository's (gitsubmodules(7))."""
    if not url.startswith(("./", "../")):
        return url
    match = re.fullmatch(SCP, remote)
    if match:
        return f"{match['user']}@{match['host']}:{posixpath.normpath(posixpath.join(match['path'], url))}"
    return urljoin(remote.rstrip("/") + "/", url)


def _check_submodule(source: Repository, found: Repository) -> None:
    scheme = found.remote.partition("://")[0].lower() if "://" in found.remote else ""
    if scheme not in PROTOCOLS.split(":") and not re.fullmatch(SCP, found.remote):
        reason = f"names {clean(found.remote)!r} as a submodule, which is no https, ssh or git URL"
        raise ContextError(source.shown(), reason)
    found.check()
