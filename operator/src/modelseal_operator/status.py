"""The whole status of an EncryptedModel: conditions with their times, counts, pods and endpoint.

Nothing in it changes while nothing happens, so an idle operator writes nothing.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from modelseal.contract import GRPC_PORT, REST_PORT
from modelseal_operator.advice import message_of
from modelseal_operator.children.common import Context, selector_labels
from modelseal_operator.children.network import egress_limited
from modelseal_operator.conditions import (
    Seen,
    State,
    conditions,
    lowest_key_version,
    names_a_failure,
)
from modelseal_operator.jsonview import dig, number_at, objects_at, text_at
from modelseal_operator.pods import Pod
from modelseal_operator.posture import describe_posture

MAX_PODS: Final = 32
Json = dict[str, Any]


def build_status(
    seen: Seen, context: Context | None, previous: Mapping[str, object], now: datetime
) -> Json:
    """Return the status; `previous` is the one that the resource has."""
    current, stamp = seen.current, now.strftime("%Y-%m-%dT%H:%M:%SZ")
    status: Json = {
        "observedGeneration": seen.generation,
        "replicas": len(seen.pods),
        "updatedReplicas": len(current),
        "readyReplicas": sum(pod.ready for pod in seen.pods),
        "conditions": [_stamped(state, seen, previous, stamp) for state in conditions(seen)],
        "pods": [_pod(pod, seen) for pod in sorted(seen.pods, key=lambda p: p.name)[:MAX_PODS]],
        **_static(seen, context),
    }
    failure = _last_failure(seen, previous, stamp)
    if failure:
        status["lastFailure"] = failure
    return status


def transitions(previous: Mapping[str, object], status: Mapping[str, object]) -> list[Json]:
    """Return the conditions whose status or reason changed, for Events."""
    before = {text_at(c, "type"): c for c in objects_at(previous, "conditions")}
    return [
        dict(condition)
        for condition in objects_at(status, "conditions")
        if any(
            condition.get(key) != dig(before.get(text_at(condition, "type")), key)
            for key in ("status", "reason")
        )
    ]


def _stamped(state: State, seen: Seen, previous: Mapping[str, object], stamp: str) -> Json:
    before = next(
        (c for c in objects_at(previous, "conditions") if c.get("type") == state.type.value), {}
    )
    same = before.get("status") == state.status
    return {
        "type": state.type.value,
        "status": state.status,
        "observedGeneration": seen.generation,
        "reason": state.reason.value,
        "message": state.message,
        "lastTransitionTime": (text_at(before, "lastTransitionTime") if same else "") or stamp,
    }


def _pod(pod: Pod, seen: Seen) -> Json:
    found: Json = {
        "name": pod.name,
        "current": pod.template == seen.template,
        "reason": pod.worst.reason.value,
    }
    if pod.report and pod.report.digest:
        found["digest"] = pod.report.digest
    if pod.report and pod.report.version:
        found["version"] = pod.report.version
    if pod.report and pod.report.key_version:
        found["keyVersion"] = pod.report.key_version
    return found


def _static(seen: Seen, context: Context | None) -> Json:
    """Return what follows from the spec, and the seal that current pods opened."""
    if seen.model is None:
        return {}
    labels = selector_labels(seen.model.name)
    found: Json = {"selector": ",".join(f"{k}={v}" for k, v in sorted(labels.items()))}
    host = f"{seen.model.name}.{seen.model.namespace}.svc"
    found["endpoint"] = {"rest": f"http://{host}:{REST_PORT}", "grpc": f"{host}:{GRPC_PORT}"}
    found["delivery"] = seen.model.delivery.value.capitalize()
    if context is None:
        return found
    found["egress"] = "Limited" if egress_limited(context) else "Open"
    found["device"] = {"selected": context.device.name}
    if context.device.resource:
        found["device"]["resourceName"] = context.device.resource
    trust = "Unsigned" if context.resolved.provider.allow_unsigned else "Signed"
    found["model"] = {**_seal(seen), "trust": trust}
    posture = describe_posture(pod.report.posture for pod in seen.current if pod.report)
    return {**found, "posture": posture} if posture else found


def _seal(seen: Seen) -> Json:
    reports = [pod.report for pod in sorted(seen.current, key=lambda p: p.name) if pod.report]
    report = next((r for r in reports if r.digest), None)
    if report is None:
        return {}
    version = {"version": report.version} if report.version else {}
    key = lowest_key_version(seen)
    return {**version, "digest": report.digest, **({"keyVersion": key} if key else {})}


def _last_failure(seen: Seen, previous: Mapping[str, object], stamp: str) -> Json | None:
    before = dig(previous, "lastFailure")
    kept = dict(before) if isinstance(before, Mapping) else None
    failing = [p for p in seen.current if not p.ready and names_a_failure(p.worst.reason)]
    if not failing:
        return kept
    pod = min(failing, key=lambda p: p.name)
    worst = pod.worst
    found: Json = {
        "pod": pod.name,
        "reason": worst.reason.value,
        "message": message_of(worst.reason, worst.detail)[:1024],
    }
    if worst.stage:
        found["stage"] = worst.stage.title
    if worst.exit_code is not None:
        found["exitCode"] = worst.exit_code
    same = kept is not None and all(kept.get(key) == found.get(key) for key in ("pod", "reason"))
    kept_time = text_at(kept, "time") if same else ""
    return {**found, "time": kept_time or worst.time or stamp}


def counts(deployment: Mapping[str, object] | None) -> tuple[int, int]:
    """Return how many pods a Deployment wants, and how many are of its template and available."""
    wanted = number_at(deployment, "spec", "replicas")
    updated = number_at(deployment, "status", "updatedReplicas")
    ready = number_at(deployment, "status", "availableReplicas")
    return wanted, min(updated, ready)
