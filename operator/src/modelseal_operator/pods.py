"""What one pod does, as one Reason: its status, its exited containers and its agent's report.

Everything that is wrong is collected, and the worst by `contract.PRECEDENCE` is what the pod does.
What a ready pod's containers did earlier does not count: recovery clears a reason by itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from modelseal.contract import (
    AGENT_CONTAINER,
    LABEL_TEMPLATE,
    PRECEDENCE,
    Reason,
    Stage,
)
from modelseal.errors import ModelsealError, shown
from modelseal_operator.foreign import (
    AGENT_REASONS,
    RUNTIME_REASONS,
    Report,
    parse_farewell,
)
from modelseal_operator.jsonview import (
    condition_of,
    dig,
    number_at,
    objects_at,
    seconds_since,
    text_at,
)

QUIET: Final = 15.0
"""Seconds that an agent may run before the absence of its report is worth a word."""
MEMORY: Final = 60.0
"""Seconds that a restarted container runs before its earlier end is forgotten."""
SLOW_VOLUMES: Final = 45.0
"""Seconds after which a scheduled pod without a sandbox lacks a volume."""
_PULL: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
)
_CONFIG: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
_RANK: Final = {reason: rank for rank, reason in enumerate(PRECEDENCE)}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was seen of a pod."""

    reason: Reason
    detail: str = ""
    stage: Stage | None = None
    exit_code: int | None = None
    time: str | None = None


@dataclass(frozen=True, kw_only=True)
class Pod:
    """What matters of a pod."""

    name: str
    uid: str
    template: str
    ready: bool
    worst: Finding
    report: Report | None
    unschedulable: float = 0.0


def worst_of(findings: list[Finding]) -> Finding:
    """Return the finding that comes first in the precedence."""
    return min(findings, key=lambda finding: _RANK[finding.reason])


def is_ready(raw: Mapping[str, object]) -> bool:
    """Tell whether a pod serves."""
    return text_at(condition_of(raw, "Ready"), "status") == "True"


def is_ending(raw: Mapping[str, object]) -> bool:
    """Tell whether a pod is being deleted or has ended for good."""
    gone = dig(raw, "metadata", "deletionTimestamp") is not None
    return gone or text_at(raw, "status", "phase") == "Succeeded"


def examine(raw: Mapping[str, object], report: Report | None, now: datetime) -> Pod:
    """Return what a pod does."""
    ready = is_ready(raw)
    findings = [Finding(reason=Reason.SERVING if ready else Reason.STARTING)]
    if not ready:
        findings += [
            *_placement(raw),
            *_containers(raw, now),
            *_reported(report),
            *_quiet(raw, report, now),
            *_volumes(raw, now),
        ]
    placed = condition_of(raw, "PodScheduled")
    waiting = text_at(placed, "reason") == "Unschedulable"
    return Pod(
        name=text_at(raw, "metadata", "name"),
        uid=text_at(raw, "metadata", "uid"),
        template=text_at(dig(raw, "metadata", "labels"), LABEL_TEMPLATE),
        ready=ready,
        worst=worst_of(findings),
        report=report,
        unschedulable=seconds_since(placed.get("lastTransitionTime"), now) if waiting else 0.0,
    )


def reason_of_exit(code: int) -> Reason | None:
    """Return the reason that one of our exit codes stands for."""
    return _EXITS.get(code)


def _placement(raw: Mapping[str, object]) -> Iterator[Finding]:
    if text_at(raw, "status", "phase") == "Failed":
        detail = f"the node says {shown(text_at(raw, 'status', 'reason'))}"
        yield Finding(reason=Reason.POD_FAILED, detail=detail)
    placed = condition_of(raw, "PodScheduled")
    if text_at(placed, "reason") != "Unschedulable":
        return
    why = text_at(placed, "message")
    detail = f"the scheduler says {shown(why, 240)}"
    if "persistentvolumeclaim" in why or "volume" in why.lower():
        yield Finding(reason=Reason.VOLUME_UNAVAILABLE, detail=detail)
    elif "intel.com/" in why:
        yield Finding(reason=Reason.DEVICE_UNAVAILABLE, detail=detail)
    else:
        yield Finding(reason=Reason.UNSCHEDULABLE, detail=detail)


def _containers(raw: Mapping[str, object], now: datetime) -> Iterator[Finding]:
    for field in ("initContainerStatuses", "containerStatuses"):
        for status in objects_at(raw, "status", field):
            ended = list(_ended(status, now))
            # that it keeps ending says less than why it ended
            yield from ended or _waiting(status)


def _waiting(status: Mapping[str, object]) -> Iterator[Finding]:
    why = text_at(status, "state", "waiting", "reason")
    name = shown(text_at(status, "name"), 40)
    if why in _PULL:
        image = shown(text_at(status, "image"), 160)
        yield Finding(reason=Reason.IMAGE_PULL_FAILED, detail=f"container {name}, image {image}")
    elif why in _CONFIG:
        text = shown(text_at(status, "state", "waiting", "message"), 160)
        detail = f"container {name}: the kubelet says {text}"
        yield Finding(reason=Reason.CONTAINER_CONFIG_INVALID, detail=detail)
    elif why == "CrashLoopBackOff":
        yield Finding(reason=Reason.CRASH_LOOPING, detail=f"container {name}")


def _end(status: Mapping[str, object], now: datetime) -> Mapping[str, object] | None:
    running = dig(status, "state", "running", "startedAt")
    if running and seconds_since(running, now) > MEMORY:
        return None
    ended = dig(status, "state", "terminated") or dig(status, "lastState", "terminated")
    return ended if isinstance(ended, Mapping) else None


def _ended(status: Mapping[str, object], now: datetime) -> Iterator[Finding]:
    """Yield why a container ended: what it says itself, its exit code, or the kernel's verdict."""
    ended = _end(status, now)
    if ended is None:
        return
    code, time = number_at(ended, "exitCode"), text_at(ended, "finishedAt") or None
    name = text_at(status, "name")
    if text_at(ended, "reason") == "OOMKilled":
        detail = f"container {shown(name, 40)} was killed for memory"
        yield Finding(reason=Reason.OUT_OF_MEMORY, detail=detail, exit_code=code, time=time)
        return
    allowed = AGENT_REASONS if name == AGENT_CONTAINER else RUNTIME_REASONS
    farewell = parse_farewell(ended.get("message"), allowed)
    reason = farewell.reason if farewell else reason_of_exit(code)
    if reason not in allowed:
        return
    size = farewell.model_size if farewell else None
    yield Finding(
        reason=reason,
        detail=f"the model has {size} bytes" if size and reason is Reason.MODEL_TOO_LARGE else "",
        stage=farewell.stage if farewell else None,
        exit_code=code,
        time=time,
    )


def _reported(report: Report | None) -> Iterator[Finding]:
    if report is None:
        return
    if report.runtime not in (None, Reason.SERVING):
        reason = report.runtime or Reason.INTERNAL
        yield Finding(reason=reason, stage=Stage.SERVE, time=report.since)
    size = report.model_size
    yield Finding(
        # an agent that is content with a pod that is not ready waits for its server
        reason=Reason.WAITING_FOR_RUNTIME if report.reason is Reason.SERVING else report.reason,
        detail=f"the model has {size} bytes"
        if size and report.reason is Reason.MODEL_TOO_LARGE
        else "",
        stage=report.stage,
        time=report.since,
    )


def _quiet(raw: Mapping[str, object], report: Report | None, now: datetime) -> Iterator[Finding]:
    if report is not None:
        return
    for status in objects_at(raw, "status", "initContainerStatuses"):
        since = dig(status, "state", "running", "startedAt")
        if text_at(status, "name") == AGENT_CONTAINER and seconds_since(since, now) > QUIET:
            yield Finding(reason=Reason.REPORT_UNAVAILABLE)


def _volumes(raw: Mapping[str, object], now: datetime) -> Iterator[Finding]:
    sandbox = condition_of(raw, "PodReadyToStartContainers")
    placed = condition_of(raw, "PodScheduled")
    scheduled = text_at(placed, "status") == "True"
    late = seconds_since(placed.get("lastTransitionTime"), now) > SLOW_VOLUMES
    ended = text_at(raw, "status", "phase") == "Failed"  # its sandbox is gone for good
    if scheduled and late and not ended and text_at(sandbox, "status") == "False":
        yield Finding(reason=Reason.VOLUME_UNAVAILABLE)


def _exits(kind: type[ModelsealError]) -> Iterator[tuple[int, Reason]]:
    yield kind.exit_code, kind.reason
    for inner in kind.__subclasses__():
        yield from _exits(inner)


_EXITS: Final = {
    code: reason for code, reason in _exits(ModelsealError) if code >= Stage.SETTINGS.value
}
