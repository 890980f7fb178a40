"""What goes wrong with registries, in words.

Hides how registries, and the network, tell of failures. Invariant: nothing that a server sent reaches a message with
control characters in it, or at length; no message has a credential or a query string in it.
"""

from __future__ import annotations

import re

from pylxc.errors import AuthError, RegistryError
from pylxc.untrusted import parse_json

_LONGEST = 300
_CODE = r"[A-Z][A-Z0-9_]{0,63}"
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _NOT_ALLOWED, _TOO_LARGE = 401, 403, 404, 405, 413
_TOO_MANY, _SERVER = 429, 500


class Broken(Exception):  # noqa: N818  an event of the network; callers see a RegistryError
    """No answer, or only a part of one.

    ``may_pass``: it may go better the next time. ``is_absent``: nobody is there, or does not want to be reached.
    """

    def __init__(self, reason: str, *, may_pass: bool = True, is_absent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_pass = may_pass
        self.is_absent = is_absent

    def as_error(self, what: str) -> RegistryError:
        """Return the error that callers see."""
        return RegistryError(f"{what}: {self.reason}")


def clean(text: str) -> str:
    """Return a server's text without what a terminal would obey, and no longer than a message should be."""
    printable = "".join(each if each.isprintable() else " " for each in text[: 4 * _LONGEST])
    words = " ".join(printable.split())
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"


def told(body: bytes) -> tuple[str, str]:
    """Return the code and the message of an error's body (distribution-spec, "Error Codes"), cleaned; maybe empty."""
    try:
        document = parse_json(body)
    except ValueError:
        return "", ""
    document = document if isinstance(document, dict) else {}
    errors = document.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else document
    code, message = first.get("code", ""), first.get("message") or first.get("details") or first.get("error") or ""
    is_code = isinstance(code, str) and re.fullmatch(_CODE, code)
    return str(code) if is_code else "", clean(message) if isinstance(message, str) else ""


def refusal(status: int, body: bytes, what: str, host: str, length: int = 0) -> RegistryError:
    """Return the error for an answer: what was asked for, what the registry says, what to do.

    ``length``: how many bytes were sent.
    """
    code, message = told(body)
    said = f" ({message})" if message else ""
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        words = "is not there, or this login may not use it"
        return AuthError(f"{what}: {words}{said}; log in with: pylxc login {host}", status=status, code=code)
    reasons = {
        _NOT_FOUND: f"{host} does not have it{said}; check the name and the tag",
        _NOT_ALLOWED: f"{host} does not allow this{said}",
        _TOO_MANY: f"{host} has had too many requests{said}; try later, or log in with: pylxc login {host}",
    }
    if length:
        remedy = "raise the limit of the proxy before it (client_max_body_size of nginx)"
        reasons[_TOO_LARGE] = f"{host} takes no request of {length} bytes{said}; {remedy}"
    default = f"{host} failed with status {status}{said}; try later"
    if status < _SERVER:
        default = f"{host} answers with status {status}{said}"
    return RegistryError(f"{what}: {reasons.get(status, default)}", status=status, code=code)
