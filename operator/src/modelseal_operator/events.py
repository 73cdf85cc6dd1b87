"""Events: one for each transition of a condition, and none for anything else."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from modelseal.contract import API_VERSION, FIELD_MANAGER, GROUP, Condition, Reason
from modelseal_operator.jsonview import text_at

Json = dict[str, Any]
_QUIET: Final = frozenset(
    {
        Reason.STARTING,
        Reason.PROGRESSING,
        Reason.WAITING_FOR_RUNTIME,
        Reason.SUSPENDED,
        Reason.SCALED_TO_ZERO,
        Reason.WAITING_FOR_WAVE,
    }
)


def event(
    raw: Mapping[str, Any], condition: Mapping[str, Any], identity: str, now: datetime
) -> Json:
    """Return the Event for a transition; the same transition always has the same name."""
    metadata = raw["metadata"]
    what = (metadata["uid"], condition["type"], condition["reason"], condition["status"])
    text = "/".join((*what, str(condition["lastTransitionTime"])))
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{hashlib.sha256(text.encode()).hexdigest()[:16]}",
            "namespace": metadata["namespace"],
        },
        "regarding": {
            "apiVersion": f"{GROUP}/{API_VERSION}",
            "kind": "EncryptedModel",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "action": "Reconcile",
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "note": str(condition["message"])[:1024],
        "reason": condition["reason"],
        "reportingController": f"{GROUP}/{FIELD_MANAGER}",
        "reportingInstance": identity[:128],
        "type": "Warning" if is_trouble(condition) else "Normal",
    }


def is_trouble(condition: Mapping[str, Any]) -> bool:
    """Tell whether a condition says something that somebody has to do something about."""
    kind, reason = text_at(condition, "type"), text_at(condition, "reason")
    return (
        kind in (Condition.READY, Condition.ACCEPTED, Condition.KEY_AVAILABLE)
        and text_at(condition, "status") == "False"
        and reason not in _QUIET
    )


def worth_telling(condition: Mapping[str, Any]) -> bool:
    """Tell whether a transition deserves an Event: trouble, and the way back from it."""
    if text_at(condition, "type") == Condition.READY:
        return is_trouble(condition) or text_at(condition, "status") == "True"
    return text_at(condition, "type") == Condition.ACCEPTED and is_trouble(condition)
