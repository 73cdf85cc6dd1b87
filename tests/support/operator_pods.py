"""Pods, Deployments and reports as a cluster would show them, for tests of status."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from modelseal.contract import LABEL_TEMPLATE, Reason, Stage
from modelseal_operator.children import build_children
from modelseal_operator.conditions import Seen
from modelseal_operator.foreign import Report, parse_report
from modelseal_operator.pods import Pod, examine
from support.operator_objects import context

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
TEMPLATE = "current"
Json = dict[str, Any]


def ago(seconds: float) -> str:
    """Return a time of the API server that lies in the past."""
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def raw_pod(
    name: str = "filetype-1",
    *,
    ready: bool = False,
    template: str = TEMPLATE,
    conditions: list[Json] | None = None,
    agent: Json | None = None,
    runtime: Json | None = None,
    **status: object,
) -> Json:
    """Return a pod; `agent` and `runtime` are their container statuses."""
    state = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {LABEL_TEMPLATE: template}},
        "status": {
            "phase": "Running",
            "conditions": [state, *(conditions or [])],
            "initContainerStatuses": [{"name": "agent", **(agent or {})}],
            "containerStatuses": [{"name": "runtime", **(runtime or {})}],
            **status,
        },
    }


def running(seconds: float = 5) -> Json:
    """Return the status of a container that runs."""
    return {"state": {"running": {"startedAt": ago(seconds)}}}


def waiting(reason: str, **extra: object) -> Json:
    """Return the status of a container that waits."""
    return {"state": {"waiting": {"reason": reason}}, **extra}


def ended(code: int, *, reason: str = "Error", message: str = "") -> Json:
    """Return the status of a container that crash-loops."""
    end = {"exitCode": code, "reason": reason, "message": message, "finishedAt": ago(3)}
    return {
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": end},
    }


def farewell(stage: Stage, reason: Reason, **extra: object) -> str:
    """Return a termination message as the agent writes it."""
    return json.dumps({"stage": stage.title, "reason": reason.value, "exitCode": 1, **extra})


def report(stage: Stage, reason: Reason, **extra: object) -> Report:
    """Return a report as the agent serves it."""
    body = {"stage": stage.title, "reason": reason.value, "since": ago(9), **extra}
    found = parse_report(json.dumps(body).encode())
    assert found is not None
    return found


def pod(raw: Json | None = None, told: Report | None = None, **fields: Any) -> Pod:
    """Return an examined pod."""
    return examine(raw or raw_pod(**fields), told, NOW)


def serving(name: str = "filetype-1", *, template: str = TEMPLATE) -> Pod:
    """Return a pod that is ready."""
    told = report(
        Stage.LEASE,
        Reason.SERVING,
        digest="sha256:" + "a" * 64,
        version="1",
        runtime={"result": "Serving"},
    )
    return examine(raw_pod(name, ready=True, template=template), told, NOW)


def deployment(template: str = TEMPLATE, **status: object) -> Json:
    """Return the live Deployment, seen by its controller."""
    found = next(c for c in build_children(context()) if c["kind"] == "Deployment")
    found["metadata"]["generation"] = 3
    found["spec"]["template"]["metadata"]["labels"][LABEL_TEMPLATE] = template
    found["status"] = {"observedGeneration": 3, **status}
    return found


def seen(*pods: Pod, **changes: Any) -> Seen:
    """Return what was seen of a model that is accepted and applied."""
    facts: Json = {
        "model": context().model,
        "generation": 4,
        "deployment": deployment(),
        "template": TEMPLATE,
        "pods": pods,
    }
    return Seen(**{**facts, **changes})
