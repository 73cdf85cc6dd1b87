"""What agents and kubelets tell, taken as untrusted: enumerated, matched, or dropped.

Two documents: the report of a running agent (`GET :8081/report`) and the termination message of
one that has exited. No text of theirs is ever passed on; only Reasons, stages and numbers are.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelseal.contract import (
    MAX_REPORT_BYTES,
    MAX_TERMINATION_BYTES,
    PRECEDENCE,
    Posture,
    Reason,
    Stage,
)

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_VERSION: Final = re.compile(r"[A-Za-z0-9 ._:/,+@=-]{1,128}")
_DEVICE: Final = re.compile(r"[A-Z][A-Za-z0-9.,:]{0,31}")
_WORD: Final = re.compile(r"[A-Za-z0-9-]{1,16}")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_STAGES: Final = {stage.title: stage for stage in Stage}
_OPERATORS_OWN: Final = frozenset(
    {
        Reason.UNSCHEDULABLE,
        Reason.NO_ROOM_FOR_UPDATE,
        Reason.QUOTA_EXCEEDED,
        Reason.POD_SECURITY_REFUSED,
        Reason.SERVICE_ACCOUNT_NOT_FOUND,
        Reason.POD_REFUSED,
        Reason.VOLUME_UNAVAILABLE,
        Reason.IMAGE_PULL_FAILED,
        Reason.CONTAINER_CONFIG_INVALID,
        Reason.CRASH_LOOPING,
        Reason.POD_FAILED,
        Reason.REPORT_UNAVAILABLE,
        Reason.PROGRESSING,
        Reason.PROGRESS_DEADLINE_EXCEEDED,
        Reason.WAITING_FOR_WAVE,
    }
)
AGENT_REASONS: Final = frozenset(PRECEDENCE) - _OPERATORS_OWN
RUNTIME_REASONS: Final = frozenset(
    {
        Reason.SERVING,
        Reason.SETTINGS_INVALID,
        Reason.HARDENING_FAILED,
        Reason.SWAP_ACTIVE,
        Reason.PORT_IN_USE,
        Reason.PEER_REJECTED,
        Reason.OUT_OF_MEMORY,
        Reason.DEVICE_UNAVAILABLE,
        Reason.MODEL_LOAD_FAILED,
        Reason.LEASE_ENDED,
        Reason.LEASE_STALE,
        Reason.INTERNAL,
    }
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a running agent says."""

    stage: Stage
    reason: Reason
    since: str | None = None
    version: str | None = None
    digest: str | None = None
    model_size: int | None = None
    key_version: int | None = None
    runtime: Reason | None = None
    device: str | None = None
    posture: tuple[tuple[Posture, str | int | bool], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Farewell:
    """What an exited container says."""

    stage: Stage
    reason: Reason
    model_size: int | None = None


def parse_report(body: bytes) -> Report | None:
    """Return the report, or None if it is none."""
    found = _object(body, MAX_REPORT_BYTES)
    stage, reason = _stage(found), _reason(found.get("reason"), AGENT_REASONS)
    if stage is None or reason is None:
        return None
    runtime = found.get("runtime")
    told = runtime if isinstance(runtime, dict) else {}
    return Report(
        stage=stage,
        reason=reason,
        since=_text(found.get("since"), _TIME),
        version=_text(found.get("version"), _VERSION),
        digest=_text(found.get("digest"), _DIGEST),
        model_size=_size(found.get("modelSize")),
        key_version=_size(found.get("keyVersion")),
        runtime=_reason(told.get("result"), RUNTIME_REASONS),
        device=_text(told.get("device"), _DEVICE),
        posture=tuple(_posture(found.get("posture"))),
    )


def parse_farewell(text: object, allowed: frozenset[Reason]) -> Farewell | None:
    """Return the termination message if it is one of ours with an allowed reason."""
    if not isinstance(text, str):
        return None
    found = _object(text.encode(errors="replace"), MAX_TERMINATION_BYTES)
    stage, reason = _stage(found), _reason(found.get("reason"), allowed)
    if stage is None or reason is None:
        return None
    return Farewell(stage=stage, reason=reason, model_size=_size(found.get("modelSize")))


def _object(body: bytes, limit: int) -> Mapping[str, Any]:
    if len(body) > limit:
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _stage(found: Mapping[str, Any]) -> Stage | None:
    stage = found.get("stage")
    return _STAGES.get(stage) if isinstance(stage, str) else None


def _reason(value: object, allowed: frozenset[Reason]) -> Reason | None:
    if not isinstance(value, str):
        return None
    return next((reason for reason in allowed if reason.value == value), None)


def _text(value: object, pattern: re.Pattern[str]) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _posture(value: object) -> Iterator[tuple[Posture, str | int | bool]]:
    measured = value if isinstance(value, dict) else {}
    for name in Posture:
        value = measured.get(name.value)
        fact = value if isinstance(value, bool) or value == 0 else _size(value)
        fact = _text(value, _WORD) if fact is None else fact
        if fact is not None:
            yield name, fact


def _size(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 < value < 1 << 53 else None  # type: ignore[operator,return-value]
