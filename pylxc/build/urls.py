"""URLs as texts: what they name, and how they are shown. Invariant: nothing here asks anybody anything."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, urlsplit, urlunsplit

_CHECKSUM = r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}"


def is_url(text: str) -> bool:
    """Say whether a source is to be fetched."""
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def is_checksum(text: str) -> bool:
    """Say whether ``--checksum`` of a URL may be this."""
    return re.fullmatch(_CHECKSUM, text) is not None


def shown(url: str) -> str:
    """Return a URL without the name and the password in it."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc="xxxxx:xxxxx@" + parts.netloc.rpartition("@")[2]))


def file_name(url: str) -> str:
    """Return the name that a URL gives its file, "" where it gives none."""
    name = posixpath.basename(unquote(urlsplit(url).path).rstrip("/"))
    return "" if name in (".", "..") or "\0" in name else name
