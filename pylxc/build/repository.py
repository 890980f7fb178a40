"""Which repository, commit and directory a URL means, and which URL may be handed to git.

Invariant: a :class:`Repository` has nothing in it that git or ssh take for an option, a command or a path outside.

Source: Docker documentation, "Git repositories" of "Build context" (fragments and queries); git-check-ref-format(1);
BuildKit's gitutil.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from attrs import frozen

from pylxc.build.confined import ContextError
from pylxc.build.urls import shown
from pylxc.registry.problems import clean

SCP = r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_-]*)@(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^#]*)(?P<rest>#.*)?"
_HOST = r"[A-Za-z0-9\[][A-Za-z0-9._:\[\]-]*"
_COMMIT = "[0-9A-Fa-f]{7,64}"
_REFS = {"ref": "", "branch": "refs/heads/", "tag": "refs/tags/"}  # what names a commit in a query
_QUERIES = {*_REFS, "subdir", "checksum", "commit"}
_BAD_REF = r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|^[-/.]|/$|\.lock$|@\{"


@frozen
class Repository:
    """A repository, a commit of it by name ("" is its HEAD), and a directory of that ("" is all).

    ``commit``: what the name must mean, the first digits of a commit's id; "" is whatever it means.
    """

    remote: str
    ref: str = ""
    subdir: str = ""
    commit: str = ""

    @classmethod
    def of(cls, text: str, *, unmarked: bool = False) -> Repository | None:
        """Read a URL; None where it means no repository; ``unmarked``: it does, whatever it looks like.

        Raises :class:`ContextError` for one that may not be given to git.

        >>> Repository.of("https://example.org/a.git#v1:docs")
        Repository(remote='https://example.org/a.git', ref='v1', subdir='docs', commit='')
        >>> Repository.of("https://example.org/a.git?tag=v1&subdir=docs").ref
        'refs/tags/v1'
        """
        if not unmarked and not cls.means(text):
            return None
        remote, _, fragment = text.partition("#")
        ref, _, subdir = fragment.partition(":")
        made = cls(remote, ref, subdir.strip("/"))
        if "://" in remote and "?" in remote:
            remote, _, query = remote.partition("?")
            made = cls._queried(remote, query, fragment)
        made.check()
        return made

    @classmethod
    def _queried(cls, remote: str, query: str, fragment: str) -> Repository:
        """Read the query of a URL, which says more precisely what a fragment says."""
        pairs = parse_qsl(query, keep_blank_values=True)
        said = {key: value for key, value in pairs if value}
        refs = [prefix + said[key] for key, prefix in _REFS.items() if key in said]
        commits = [said[key] for key in ("checksum", "commit") if key in said]
        known = len(said) == len(pairs) and said.keys() <= _QUERIES and len(refs) <= 1 and len(commits) <= 1
        if fragment or not known or not all(re.fullmatch(_COMMIT, one) for one in commits):
            reason = "takes one of ref=, branch= and tag=, subdir=, and checksum=COMMIT after the '?', and no '#' then"
            raise ContextError(clean(shown(remote)), reason)
        ref = (refs or commits or [""])[0]
        return cls(remote, ref, said.get("subdir", "").strip("/"), commits[0].lower() if commits else "")

    @staticmethod
    def means(text: str) -> bool:
        """Say whether a URL means a repository: by its protocol, or by a path that ends in ".git"."""
        remote = text.partition("#")[0]
        scheme = remote.partition("://")[0].lower() if "://" in remote else ""
        if scheme in ("http", "https"):
            return remote.partition("?")[0].endswith(".git")
        return scheme in ("git", "ssh") or (not scheme and re.fullmatch(SCP, text) is not None)

    def check(self) -> None:
        """Raise :class:`ContextError` for what git could take for something else."""
        host = "host" if re.fullmatch(SCP, self.remote) else urlsplit(self.remote).netloc.rpartition("@")[2]
        if (
            not self.remote.isprintable()
            or not re.fullmatch(_HOST, host)
            or urlsplit(self.remote).netloc.startswith("-")
        ):
            raise ContextError(clean(shown(self.remote)), "is no URL of a repository: write https://host/path.git")
        if self.ref and (re.search(_BAD_REF, self.ref) or self.ref == "@"):
            raise ContextError(self.shown(), f"{self.ref!r} cannot name a branch, a tag or a commit")
        if ".." in self.subdir.split("/") or "\0" in self.subdir:
            raise ContextError(self.shown(), f"the directory {self.subdir!r} leads out of the repository")

    def shown(self) -> str:
        """Return the URL for a message or a history: without the name and the password in it."""
        return shown(self.remote)
