"""Digests: what names bytes, and says whether they are right.

Hides the algorithms. Invariant: a text that :func:`is_digest` accepts is safe in a URL and as a file's name.
Source: OCI image-spec, descriptor.md, "Digests".
"""

from __future__ import annotations

import hashlib
import re

from pylxc.errors import IntegrityError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def is_digest(text: object) -> bool:
    """Say whether a text is a digest that pylxc can check: of sha256 or sha512, in full."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def digest_of(data: bytes) -> str:
    """Return the sha256 digest of some bytes: what names them here."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Hasher:
    """Hashes what goes by with the algorithm of a digest, and compares at the end."""

    def __init__(self, digest: str) -> None:
        self.expected = digest
        self._algorithm = digest.partition(":")[0]
        self._hash = hashlib.new(self._algorithm)
        self.update = self._hash.update

    def check(self, subject: str) -> None:
        """Raise IntegrityError unless what went by has the digest."""
        actual = f"{self._algorithm}:{self._hash.hexdigest()}"
        if actual != self.expected:
            raise IntegrityError(subject, self.expected, actual)
