"""What the agent tells others about itself: values to JSON, no I/O.

Two documents with closed schemas, which README.md describes: the report that the operator reads
while the agent runs, and the termination message that Kubernetes keeps when it has exited. Neither
holds a secret, text of a key service's answer, or an unescaped string from a file.
"""

import json
import re
from datetime import UTC, datetime
from typing import Final

from modelseal.contract import MAX_REPORT_BYTES, MAX_TERMINATION_BYTES, VERSION, Reason
from modelseal.errors import ModelsealError
from modelseal_sidecar.status import RuntimeStatus, Status

REPORT_VERSION: Final = 1
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9 ._:/,+@=-]")
_MAX_TEXT: Final = 200
_RUNTIME_REASONS: Final = frozenset(
    {Reason.SERVING, Reason.MODEL_LOAD_FAILED, Reason.DEVICE_UNAVAILABLE, Reason.OUT_OF_MEMORY}
)


def safe(text: str | None, limit: int = _MAX_TEXT) -> str | None:
    """Return foreign text with everything but plain characters replaced, cut at `limit`."""
    return None if text is None else _UNSAFE.sub("?", text[:limit])


def load_result(claimed: Reason) -> Reason:
    """Return the runtime's own reason where it may have one of that kind, else a general one."""
    return claimed if claimed in _RUNTIME_REASONS else Reason.MODEL_LOAD_FAILED


def render_report(status: Status) -> bytes:
    """Return the report, at most `MAX_REPORT_BYTES` of ASCII JSON."""
    document: dict[str, object] = {
        "reportVersion": REPORT_VERSION,
        "agentVersion": VERSION,
        "stage": status.stage.title,
        "reason": status.reason.value,
        "since": _time(status.since),
        "attempts": status.attempts,
        "delivery": status.delivery.value,
        "model": safe(status.model),
        "version": safe(status.version),
        "digest": safe(status.digest),
        "keyVersion": status.key_version,
        "modelSize": status.model_size,
        "leaseValidUntil": _time(status.lease_until),
        "posture": {name: _posture(value) for name, value in status.posture},
        "runtime": _runtime(status.runtime),
    }
    body = _encode(document)
    if len(body) > MAX_REPORT_BYTES:  # only posture has no fixed number of fields
        body = _encode(document | {"posture": {}})
    return body


def render_termination(error: ModelsealError, status: Status | None) -> bytes:
    """Return the termination message: fixed texts of the error's class, at most 1 KiB."""
    kind = type(error)
    document: dict[str, object] = {
        "stage": kind.stage.title,
        "reason": kind.reason.value,
        "exitCode": kind.exit_code,
        "message": f"the agent cannot go on: {kind.reason.value} at stage {kind.stage.title}",
        "hint": kind.hint,
        "modelSize": status.model_size if status else None,
        "digest": safe(status.digest) if status else None,
    }
    body = _encode(document)
    return body if len(body) <= MAX_TERMINATION_BYTES else _encode(document | {"hint": ""})


def _runtime(runtime: RuntimeStatus) -> dict[str, object]:
    return {
        "connected": runtime.connected,
        "result": runtime.result.value if runtime.result else None,
        "device": safe(runtime.device, 64),
        "loadSeconds": None if runtime.load_seconds is None else round(runtime.load_seconds, 3),
    }


def _posture(value: str | int | bool | None) -> str | int | bool | None:
    return safe(value) if isinstance(value, str) else value


def _time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _encode(document: dict[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode()
