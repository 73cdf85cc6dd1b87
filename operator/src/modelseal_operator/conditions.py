"""The conditions of an EncryptedModel from everything that was seen (design section 10).

`Accepted` speaks of API objects only; what only a pod can see is never there. `Ready` is true only
for a current status and a ready pod of the current template; a shortfall of replicas shows in the
columns, so that scaling does not flap it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from modelseal.contract import LABEL_TEMPLATE, PRECEDENCE, Condition, Reason, Stage
from modelseal.errors import shown
from modelseal_operator.advice import message_of
from modelseal_operator.jsonview import condition_of, dig, number_at, text_at
from modelseal_operator.memory import pod_memory
from modelseal_operator.pods import Finding, Pod, worst_of
from modelseal_operator.provider import Retirement
from modelseal_operator.quantities import format_bytes
from modelseal_operator.refusal import Refusal
from modelseal_operator.resource import EncryptedModel

MAX_MESSAGE: Final = 1024
_KEY_REASONS: Final = frozenset(
    {
        Reason.KEY_SERVICE_UNAVAILABLE,
        Reason.KEY_SERVICE_UNTRUSTED,
        Reason.KEY_SERVICE_BUSY,
        Reason.KEY_SERVICE_PROTOCOL,
        Reason.KEY_ACCESS_DENIED,
        Reason.KEY_NOT_FOUND,
        Reason.KEY_REVOKED,
        Reason.WRAPPED_KEY_INVALID,
        Reason.WRONG_KEY,
        Reason.WRONG_PASSPHRASE,
        Reason.NO_RECIPIENT,
        Reason.MANIFEST_MAC_MISMATCH,
        Reason.LEASE_STALE,
        Reason.LEASE_ENDED,
    }
)


@dataclass(frozen=True, kw_only=True)
class State:
    """One condition before it has a time."""

    type: Condition
    status: str
    reason: Reason
    message: str


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Everything that was seen of a model; `model` is None if it could not be read."""

    model: EncryptedModel | None
    generation: int
    refusal: Refusal | None = None
    obstacle: Finding | None = None
    """What kept a child from being applied: a name conflict or a refusal of the API server."""
    deployment: Mapping[str, object] | None = None
    template: str = ""
    """Hash of the template that should be running now."""
    held: bool = False
    """Whether a newer template waits for its turn."""
    pods: Sequence[Pod] = ()
    retirement: Retirement | None = None

    @property
    def current(self) -> list[Pod]:
        """The pods of the template that should be running."""
        return [pod for pod in self.pods if pod.template == self.template]


def conditions(seen: Seen) -> list[State]:
    """Return all conditions, in a fixed order."""
    return [
        accepted(seen),
        key_available(seen),
        *key_current(seen),
        pinned(seen),
        available(seen),
        ready(seen),
    ]


def accepted(seen: Seen) -> State:
    """Return whether the API objects are consistent and allowed."""
    if seen.refusal:
        return _state(Condition.ACCEPTED, "False", seen.refusal.why, seen.refusal.message)
    return _state(Condition.ACCEPTED, "True", Reason.ACCEPTED, message_of(Reason.ACCEPTED))


def pinned(seen: Seen) -> State:
    """Return whether older seals are refused."""
    if seen.model is None:
        return _state(Condition.PINNED, "Unknown", Reason.SPEC_INVALID, "the spec cannot be read")
    if seen.model.pinned:
        return _state(Condition.PINNED, "True", Reason.PINNED, message_of(Reason.PINNED))
    return _state(Condition.PINNED, "False", Reason.UNPINNED, message_of(Reason.UNPINNED))


def key_available(seen: Seen) -> State:
    """Return whether the key service lets the current pods open the model."""
    told = [finding for pod in seen.current for finding in _key_findings(pod)]
    refused = [finding for finding in told if finding.reason in _KEY_REASONS]
    if refused:
        worst = worst_of(refused)
        return _state(Condition.KEY_AVAILABLE, "False", worst.reason, message_of(worst.reason))
    if told:
        text = message_of(Reason.KEY_UNWRAPPED)
        return _state(Condition.KEY_AVAILABLE, "True", Reason.KEY_UNWRAPPED, text)
    text = "no pod has asked the key service yet"
    return _state(Condition.KEY_AVAILABLE, "Unknown", Reason.STARTING, text)


def key_current(seen: Seen) -> list[State]:
    """Return whether the model goes on to open when old versions of the key are retired.

    Nothing is said where the provider announces nothing.
    """
    retirement, version = seen.retirement, lowest_key_version(seen)
    if retirement is None:
        return []
    if version is None:
        text = "no pod has told the version of its key yet"
        return [_state(Condition.KEY_CURRENT, "Unknown", Reason.STARTING, text)]
    if version >= retirement.below:
        text = message_of(Reason.KEY_VERSION_CURRENT)
        return [_state(Condition.KEY_CURRENT, "True", Reason.KEY_VERSION_CURRENT, text)]
    detail = f"version {version}; versions below {retirement.below} stop on {retirement.on}"
    text = message_of(Reason.KEY_VERSION_RETIRING, detail)
    return [_state(Condition.KEY_CURRENT, "False", Reason.KEY_VERSION_RETIRING, text)]


def lowest_key_version(seen: Seen) -> int | None:
    """Return the lowest version of the key that opened a current pod's model."""
    told = [pod.report.key_version for pod in seen.current if pod.report]
    return min((version for version in told if version is not None), default=None)


def available(seen: Seen) -> State:
    """Return whether anything serves, of whatever revision."""
    if any(pod.ready for pod in seen.pods):
        return _state(Condition.AVAILABLE, "True", Reason.SERVING, message_of(Reason.SERVING))
    reason = _idle(seen) or Reason.STARTING
    return _state(Condition.AVAILABLE, "False", reason, "no pod is ready")


def ready(seen: Seen) -> State:
    """Return whether what the spec says now is served."""
    finding = _unready(seen)
    if finding is None:
        detail = "an update that is not this resource's waits for its turn" if seen.held else ""
        text = message_of(Reason.SERVING) + (f"; {detail}" if detail else "")
        return _state(Condition.READY, "True", Reason.SERVING, text)
    if finding is _REFUSED and seen.refusal:
        return _state(Condition.READY, "False", seen.refusal.why, seen.refusal.message)
    text = message_of(finding.reason, finding.detail)
    return _state(Condition.READY, "False", finding.reason, text)


_REFUSED: Final = Finding(reason=Reason.INTERNAL)


def _unready(seen: Seen) -> Finding | None:
    if seen.refusal:
        return _REFUSED
    if seen.obstacle:
        return seen.obstacle
    idle = _idle(seen)
    if idle:
        return Finding(reason=idle)
    current = seen.current
    if _settled(seen) and any(pod.ready for pod in current):
        return None
    findings = [_explained(seen, pod.worst) for pod in current if not pod.ready]
    findings += _rollout(seen)
    return worst_of([*findings, Finding(reason=Reason.PROGRESSING)])


def _idle(seen: Seen) -> Reason | None:
    if seen.model is None or seen.model.pods:
        return None
    return Reason.SUSPENDED if seen.model.suspend else Reason.SCALED_TO_ZERO


def _settled(seen: Seen) -> bool:
    """Tell whether the Deployment has the template and its controller has seen it."""
    live = seen.deployment
    template = dig(live, "spec", "template", "metadata", "labels")
    observed = number_at(live, "status", "observedGeneration")
    return text_at(template, LABEL_TEMPLATE) == seen.template and observed >= number_at(
        live, "metadata", "generation"
    )


def _rollout(seen: Seen) -> list[Finding]:
    """Return what the Deployment says about pods that do not exist."""
    found = []
    live = seen.deployment or {}
    failure = condition_of(live, "ReplicaFailure")
    if text_at(failure, "status") == "True":
        found.append(_refused_pod(text_at(failure, "message")))
    progress = condition_of(live, "Progressing")
    if text_at(progress, "reason") == "ProgressDeadlineExceeded":
        found.append(Finding(reason=Reason.PROGRESS_DEADLINE_EXCEEDED))
    return found


def _refused_pod(why: str) -> Finding:
    detail = f"the API server says {shown(why, 240)}"
    table = (
        ("exceeded quota", Reason.QUOTA_EXCEEDED),
        ("violates PodSecurity", Reason.POD_SECURITY_REFUSED),
        ("serviceaccount", Reason.SERVICE_ACCOUNT_NOT_FOUND),
        ("service account", Reason.SERVICE_ACCOUNT_NOT_FOUND),
    )
    reason = next((reason for word, reason in table if word in why), Reason.POD_REFUSED)
    return Finding(reason=reason, detail=detail)


def _explained(seen: Seen, finding: Finding) -> Finding:
    """Return a pod's finding with what is known beyond the pod."""
    older = any(pod.ready for pod in seen.pods if pod.template != seen.template)
    if finding.reason is Reason.UNSCHEDULABLE and older:
        return Finding(reason=Reason.NO_ROOM_FOR_UPDATE, detail=finding.detail)
    if finding.reason is Reason.OUT_OF_MEMORY and seen.model:
        memory, model = pod_memory(seen.model), seen.model
        detail = (
            f"{finding.detail or 'memory ran out'} (modelSize {format_bytes(model.model_size)},"
            f" compiledSize {format_bytes(model.compiled_size)}; limits: agent"
            f" {format_bytes(memory.agent)}, runtime {format_bytes(memory.runtime)})"
        )
        return Finding(reason=finding.reason, detail=detail, exit_code=finding.exit_code)
    return finding


def _key_findings(pod: Pod) -> list[Finding]:
    """Return what is known of the key: a refusal, or that the pod got past unwrapping."""
    report = pod.report
    found = [pod.worst] if pod.worst.reason in _KEY_REASONS else []
    if report and report.reason in _KEY_REASONS:
        found.append(Finding(reason=report.reason))
    if not found and (pod.ready or (report and report.stage >= Stage.DECRYPT)):
        found.append(Finding(reason=Reason.SERVING))
    return found


def _state(kind: Condition, status: str, reason: Reason, message: str) -> State:
    return State(type=kind, status=status, reason=reason, message=message[:MAX_MESSAGE])


def names_a_failure(reason: Reason) -> bool:
    """Tell whether a reason of a pod is a failure and not progress."""
    rank = PRECEDENCE.index(reason) if reason in PRECEDENCE else len(PRECEDENCE)
    return rank < PRECEDENCE.index(Reason.WAITING_FOR_WAVE)
