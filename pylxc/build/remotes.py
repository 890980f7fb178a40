"""What an ADD says of sources that lie elsewhere: which flags go with which, and what a mistake in them is.

Invariant: nothing is asked of anybody here; what passes may still not be there.

Source: Dockerfile reference, ADD; BuildKit's ``dispatchCopy``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pylxc.build import instructions as ast
from pylxc.build.repository import Repository
from pylxc.build.urls import is_checksum, is_url, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pylxc.build.instructions import Word

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|git@")
_COMMIT = r"[0-9A-Fa-f]{7,64}"


def check_source(instruction: ast.Copy, word: Word, source: str) -> None:
    """Raise the error of a URL that cannot be a source; ``source`` is what ``word`` came to."""
    match = _REMOTE.match(source)
    if match is None:
        return
    if not isinstance(instruction, ast.Add):
        reason = f"COPY takes no URL ({shown(source)}): ADD does"
        raise instruction.error(reason, word.offset)
    if not is_url(source) and match[0].lower() not in ("git://", "ssh://", "git@"):
        reason = f"{match[0]} is not fetched: ADD takes http, https, git and ssh URLs"
        raise instruction.error(reason, word.offset)


def remote_options(instruction: ast.Copy, sources: Sequence[str], expand: Callable[[Word], str]) -> dict[str, Any]:
    """Return the options of a :class:`~pylxc.build.plan.CopyStep` that URLs have. Raises DockerfileError."""
    if not isinstance(instruction, ast.Add):
        return {}
    return {
        "fetches": True,
        "checksum": _checksum(instruction, sources, expand),
        "keep_git_dir": instruction.keep_git_dir,
        "unpack_remote": instruction.unpack is True,
    }


def _checksum(instruction: ast.Add, sources: Sequence[str], expand: Callable[[Word], str]) -> str:
    word = instruction.checksum
    if word is None:
        return ""
    text = expand(word)
    if len(sources) != 1 or instruction.heredocs:
        raise instruction.error("--checksum goes with one source: write an ADD for each", word.offset)
    source = sources[0]
    if Repository.means(source):
        if not re.fullmatch(_COMMIT, text):
            raise instruction.error(f"--checksum={text}: of a repository, give the commit's id", word.offset)
    elif not is_url(source):
        raise instruction.error("--checksum goes with a URL: the files of the context are known", word.offset)
    elif not is_checksum(text):
        reason = f"--checksum={text}: give sha256: and 64 hexadecimal digits (or sha384:, sha512:)"
        raise instruction.error(reason, word.offset)
    return text
