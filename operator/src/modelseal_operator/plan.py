"""What is to do for one model now: a function from what the store holds to a plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from modelseal.contract import (
    ANNOTATION_DESIRED,
    ANNOTATION_DEVICE,
    ANNOTATION_GENERATION,
    ANNOTATION_WAVE,
    LABEL_TEMPLATE,
    RUNTIME_CONTAINER,
    Env,
)
from modelseal_operator.children import Context, build_children
from modelseal_operator.children.common import digest_of
from modelseal_operator.conditions import Seen, names_a_failure
from modelseal_operator.devices import choose_device
from modelseal_operator.foreign import Report
from modelseal_operator.jsonview import condition_of, dig, number_at, objects_at, text_at
from modelseal_operator.pods import Pod, examine, is_ending
from modelseal_operator.provider import Provider, parse_provider
from modelseal_operator.refusal import Refusal
from modelseal_operator.resolve import Resolved, resolve
from modelseal_operator.resource import EncryptedModel, parse_model
from modelseal_operator.settings import PodSettings
from modelseal_operator.waves import Rolling

Json = dict[str, Any]
DEPLOYMENT: Final = "Deployment"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that is known of a model; `children` are those that it controls."""

    raw: Json
    provider: Json | None
    children: Sequence[Json]
    pods: Sequence[Json]
    reports: Mapping[str, Report]
    offered: frozenset[str] | None
    now: datetime

    @property
    def deployment(self) -> Json | None:
        """The live Deployment."""
        return next((c for c in self.children if c.get("kind") == DEPLOYMENT), None)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What should exist, what should not, and what was seen."""

    seen: Seen
    context: Context | None = None
    desired: Sequence[Json] = ()
    unwanted: Sequence[Json] = ()
    foreign_change: bool = False
    """Whether the template changes for a reason that is not in the resource."""
    rolling: Rolling = Rolling.SETTLED
    again: float | None = field(default=None)
    """Seconds after which the plan may differ although nothing has happened."""


def make_plan(facts: Facts, settings: PodSettings) -> Plan:
    """Return the plan for a model."""
    pods = [
        examine(raw, facts.reports.get(text_at(raw, "metadata", "uid")), facts.now)
        for raw in facts.pods
        if not is_ending(raw)
    ]
    generation = number_at(facts.raw, "metadata", "generation")
    live = facts.deployment
    seen = Seen(
        model=None, generation=generation, deployment=live, template=template_of(live), pods=pods
    )
    provider: Provider | None = None
    try:
        model = parse_model(facts.raw)
        seen = replace(seen, model=model)
        provider = _provider(model, facts.provider)
        seen = replace(seen, retirement=provider.retirement if provider else None)
        resolved = resolve(model, provider)
    except Refusal as refusal:
        gone = refusal.withdrawn or (provider is not None and _outdated(live, provider))
        seen = replace(seen, refusal=refusal)
        return Plan(seen=seen, unwanted=facts.children if gone else ())
    return _accepted(facts, settings, seen, resolved)


def hold_template(plan: Plan) -> Plan:
    """Return the plan with the live template kept, because its turn has not come."""
    others = [child for child in plan.desired if child["kind"] != DEPLOYMENT]
    seen = replace(plan.seen, held=True, template=template_of(plan.seen.deployment))
    return replace(plan, seen=seen, desired=others)


def template_of(deployment: Mapping[str, object] | None) -> str:
    """Return the hash of a Deployment's template."""
    labels = dig(deployment, "spec", "template", "metadata", "labels")
    return text_at(labels, LABEL_TEMPLATE)


def _accepted(facts: Facts, settings: PodSettings, seen: Seen, resolved: Resolved) -> Plan:
    device = choose_device(
        resolved.model.devices,
        facts.offered,
        settings,
        recorded=_annotation(facts.deployment, ANNOTATION_DEVICE) or None,
        unschedulable=_unschedulable(seen.pods),
    )
    context = Context(resolved=resolved, settings=settings, device=device)
    desired = build_children(context)
    workload = next(child for child in desired if child["kind"] == DEPLOYMENT)
    template, live = template_of(workload), facts.deployment
    foreign = _is_foreign(facts.raw, live, template)
    _mark_wave(workload, live, template, foreign=foreign)
    places = {(child["kind"], child["metadata"]["name"]) for child in desired}
    seen = replace(seen, template=template)
    return Plan(
        seen=seen,
        context=context,
        desired=desired,
        unwanted=[c for c in facts.children if (c["kind"], _name(c)) not in places],
        foreign_change=foreign,
        rolling=_rolling(live, template, seen.current),
        again=_again(seen.pods),
    )


def _provider(model: EncryptedModel, raw: Json | None) -> Provider | None:
    return parse_provider(model.provider_kind, raw) if raw is not None else None


def _is_foreign(raw: Json, live: Json | None, template: str) -> bool:
    """Tell whether the template changes although the resource has not."""
    if live is None or template_of(live) in ("", template):
        return False
    # scaling raises the generation too, and is written to the Deployment at once
    return _annotation(live, ANNOTATION_GENERATION) == str(number_at(raw, "metadata", "generation"))


def _mark_wave(workload: Json, live: Json | None, template: str, *, foreign: bool) -> None:
    """Write on the Deployment which template came with a wave, and bring its hash up to date."""
    before = _annotation(live, ANNOTATION_WAVE)
    annotations = workload["metadata"]["annotations"]
    if foreign or before == template:
        annotations[ANNOTATION_WAVE] = template
        del annotations[ANNOTATION_DESIRED]
        annotations[ANNOTATION_DESIRED] = digest_of(workload)


def _rolling(live: Json | None, template: str, current: Sequence[Pod]) -> Rolling:
    if live is None or _annotation(live, ANNOTATION_WAVE) != template:
        return Rolling.SETTLED
    if text_at(condition_of(live, "Progressing"), "reason") == "ProgressDeadlineExceeded":
        return Rolling.FAILED
    if any(names_a_failure(pod.worst.reason) for pod in current):
        return Rolling.FAILED
    wanted = number_at(live, "spec", "replicas")
    status = dig(live, "status")
    updated, serving = number_at(status, "updatedReplicas"), number_at(status, "availableReplicas")
    observed = number_at(status, "observedGeneration") >= number_at(live, "metadata", "generation")
    complete = observed and updated >= wanted and serving >= wanted
    return Rolling.SETTLED if complete else Rolling.ROLLING


def _outdated(live: Json | None, provider: Provider) -> bool:
    """Tell whether what runs trusts or uses what the provider does not allow any more."""
    pod = dig(live, "spec", "template", "spec")
    for container in (*objects_at(pod, "containers"), *objects_at(pod, "initContainers")):
        values = {text_at(e, "name"): text_at(e, "value") for e in objects_at(container, "env")}
        signers = set(values.get(Env.SIGNERS.value, "").split(",")) - {""}
        if signers - set(provider.signers):
            return True
        foreign = Env.SOCKET.value not in values and container.get("name") == RUNTIME_CONTAINER
        listed = provider.allow_tmpfs and text_at(container, "image") in provider.server_images
        if foreign and not listed:
            return True
    return False


def _annotation(live: Mapping[str, object] | None, name: str) -> str:
    return text_at(dig(live, "metadata", "annotations"), name)


def _name(child: Mapping[str, object]) -> str:
    return text_at(child, "metadata", "name")


def _unschedulable(pods: Sequence[Pod]) -> float:
    return max((pod.unschedulable for pod in pods), default=0.0)


def _again(pods: Sequence[Pod]) -> float | None:
    """Return when to look again: some reasons depend on how long something takes."""
    return 20.0 if any(not pod.ready for pod in pods) else None
