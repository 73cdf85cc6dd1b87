"""Reading the audit log of Vault or OpenBao: who used a model's key, and how it was answered."""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from modelseal.contract import FORMAT
from modelseal.envelope import kek_context

_SEAL_ID: Final = 32
_ACCOUNT: Final = re.compile(r"system:serviceaccount:([a-z0-9.-]+):([a-z0-9.-]+)$")
_PATH: Final = re.compile(
    r"(?P<mount>.+?)/(?P<verb>decrypt|datakey/plaintext|export/[a-z-]+|backup|data)/(?P<key>.+)"
)
_HIDDEN: Final = "hmac-sha256:"


class Use(StrEnum):
    """In which way key material came out."""

    OPENING = "opening"
    """One data key was unwrapped."""
    BATCH = "batch"
    """Several data keys at once; the log does not name their contexts."""
    DATA_KEY = "data key"
    """A new data key was made and shown."""
    EXPORT = "export"
    """The key itself was shown or backed up."""
    KEK_READ = "key read"
    """A key kept in KV was read: for an opening, a lease check or a sealing."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """One answered request that asked for key material."""

    request: str
    time: datetime
    use: Use
    key: str
    """`MOUNT/KEY`, or `MOUNT/PATH` of a KV secret."""
    model: str | None
    seal_id: str | None
    namespace: str | None
    account: str | None
    identity: str
    """The token's display name."""
    address: str
    refused: bool


@dataclass(kw_only=True)
class Covered:
    """What part of time the log covers, and what of it could not be read."""

    lines: int = 0
    malformed: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def saw(self, time: datetime) -> None:
        """Note one line's time."""
        self.first = min(self.first or time, time)
        self.last = max(self.last or time, time)


@dataclass(kw_only=True)
class AuditLog:
    """Reads lines of one or several audit logs."""

    covered: Covered = field(default_factory=Covered)

    def read(self, lines: Iterable[str]) -> Iterator[Access]:
        """Yield every answered request for key material; counts the rest."""
        for line in filter(str.strip, lines):
            self.covered.lines += 1
            try:
                entry = json.loads(line)
                time = parse_time(entry["time"])
                found = _access(entry, time) if entry["type"] == "response" else None
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                self.covered.malformed += 1
                continue
            self.covered.saw(time)
            if found is not None:
                yield found


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time; UTC.

    Raises:
        ValueError: it is none.

    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:
        raise ValueError("a time at the end of time, which has none in UTC") from None


def parse_context(text: object) -> tuple[str, str] | None:
    """Return model and seal (hexadecimal) of a base64 KEK context; `None` if it is none of ours."""
    if not isinstance(text, str) or text.startswith(_HIDDEN):
        return None
    try:
        raw = base64.b64decode(text, validate=True)
        head, seal_id = raw[:-_SEAL_ID], raw[-_SEAL_ID:]
        model = head.removeprefix(f"{FORMAT}\0".encode()).rstrip(b"\0").decode("ascii")
    except (binascii.Error, ValueError):
        return None
    return (model, seal_id.hex()) if kek_context(model, seal_id) == raw else None


def _access(entry: dict[str, Any], time: datetime) -> Access | None:
    request, auth = entry["request"], entry.get("auth") or {}
    match = _PATH.fullmatch(request["path"])
    use = _use(match["verb"], request) if match else None
    if match is None or use is None:
        return None
    data = request.get("data") or {}
    bound = parse_context(data.get("context"))
    namespace, account = _account(auth)
    return Access(
        request=str(request["id"]),
        time=time,
        use=use,
        key=f"{match['mount']}/{match['key']}",
        model=bound[0] if bound else None,
        seal_id=bound[1] if bound else None,
        namespace=namespace,
        account=account,
        identity=str(auth.get("display_name") or "nobody"),
        address=str(request.get("remote_address") or ""),
        refused=bool(entry.get("error")),
    )


def _use(verb: str, request: dict[str, Any]) -> Use | None:
    """Return in which way a request asks for key material; `None` if it does not."""
    if verb == "data":
        is_read = request.get("mount_type") == "kv" and request.get("operation") == "read"
        return Use.KEK_READ if is_read else None
    if request.get("mount_type") not in ("transit", None):
        return None
    if verb == "decrypt":
        return Use.BATCH if "batch_input" in (request.get("data") or {}) else Use.OPENING
    return Use.DATA_KEY if verb.startswith("datakey") else Use.EXPORT


def _account(auth: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the Kubernetes namespace and service account of a token."""
    metadata = auth.get("metadata") or {}
    if "service_account_name" in metadata:
        namespace, account = (
            str(metadata.get(f"service_account_{each}")) for each in ("namespace", "name")
        )
        return namespace, account
    match = _ACCOUNT.search(str(auth.get("display_name") or ""))
    return (match[1], match[2]) if match else (None, None)
