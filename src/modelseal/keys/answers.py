"""What the answers of a key service mean: a function from values to errors (docs/keys.md).

A refusal counts only as the service's own JSON error. Whatever else comes back, from a proxy or a
captive portal, says nothing about rights and is "unreachable". The service's texts are compared,
never repeated.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from modelseal.errors import (
    KeyAccessDenied,
    KeyNotFound,
    KeyRevoked,
    KeyServiceBusy,
    KeyServiceProtocolError,
    KeyServiceUnavailable,
    ModelsealError,
    WrappedKeyInvalid,
)

TOO_MANY: Final = 429
RETRIED: Final = (408, 412, TOO_MANY, 472, 473, 500, 502, 503, 504)
_BY_TEXT: Final[tuple[tuple[str, type[ModelsealError], str], ...]] = (
    ("message authentication failed", WrappedKeyInvalid, "the wrapped key is not for this model"),
    ("too old", KeyRevoked, "the key's version may not decrypt any more"),
    ("soft-deleted", KeyRevoked, "the key was deleted"),
    ("key not found", KeyNotFound, "there is no such key"),
    ("no existing key", KeyNotFound, "there is no such key"),
    ("version is too new", WrappedKeyInvalid, "the wrapped key names a version that is not there"),
    ("no prefix", WrappedKeyInvalid, "the wrapped key is malformed"),
    ("invalid ciphertext", WrappedKeyInvalid, "the wrapped key is malformed"),
    ("could not decode base64", WrappedKeyInvalid, "the wrapped key is malformed"),
    ("missing client token", KeyAccessDenied, "it wants a token"),
)
_REQUEST_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FORMS: Final = "failed to use the key service: "


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One HTTP answer of the key service."""

    status: int
    body: bytes
    login: bool
    """Whether it answers a login, where refusals come as 400 as well."""


def read_answer(answer: Answer) -> dict[str, Any]:
    """Return the JSON object of a good answer.

    Raises:
        KeyServiceError, KeyRefused, UnwrapError: as status and the service's own error say.

    """
    document = _document(answer.body)
    if answer.status == 200 and document is not None:
        return document
    if answer.status == 204:
        return {}
    raise _failure(answer, document)


def request_id(document: dict[str, Any]) -> str | None:
    """Return the service's own id of the request, if it has the form of one."""
    found = document.get("request_id")
    return found if isinstance(found, str) and _REQUEST_ID.fullmatch(found) else None


def _failure(answer: Answer, document: dict[str, Any] | None) -> ModelsealError:
    status = answer.status
    if status == 200:
        return KeyServiceProtocolError(_FORMS + "its answer is not a JSON object")
    if 300 <= status < 400:
        return KeyServiceProtocolError(
            _FORMS + f"it redirects (HTTP {status}), which is not followed",
            hint="give the address of the key service itself, not of one that redirects to it",
        )
    if status == TOO_MANY:
        return KeyServiceBusy(_FORMS + "it asks to come back later (HTTP 429)")
    if status == 404 and _names_deleted_version(document):
        return KeyRevoked(_FORMS + "the secret's version was deleted")
    errors = _errors(document)
    if status in RETRIED or errors is None:
        return KeyServiceUnavailable(_FORMS + f"HTTP {status}")
    return _refusal(answer, " ".join(errors).lower())


def _refusal(answer: Answer, text: str) -> ModelsealError:
    if answer.login and answer.status in (400, 403):
        return KeyAccessDenied(_FORMS + f"it refuses the login (HTTP {answer.status})")
    if answer.status == 403:
        return KeyAccessDenied(_FORMS + "it denies access (HTTP 403)")
    if answer.status == 404:
        return KeyNotFound(_FORMS + "there is no such key or mount (HTTP 404)")
    if answer.status == 400:
        for part, kind, meaning in _BY_TEXT:
            if part in text:
                return kind(_FORMS + meaning)
    return KeyServiceProtocolError(_FORMS + f"it does not understand the request ({answer.status})")


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _errors(document: dict[str, Any] | None) -> list[str] | None:
    """Return the service's own list of errors; `None` if this is not its form."""
    errors = document.get("errors") if document is not None else None
    if isinstance(errors, list) and all(isinstance(each, str) for each in errors):
        return errors
    return None


def _names_deleted_version(document: dict[str, Any] | None) -> bool:
    """Say whether a 404 is KV version 2's way to show a deleted or destroyed version."""
    data = document.get("data") if document is not None else None
    metadata = data.get("metadata") if isinstance(data, dict) else None
    return isinstance(metadata, dict) and bool(
        metadata.get("destroyed") or metadata.get("deletion_time")
    )
