"""The join: each use of a key with the agent that claims it and the pod it ran in."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from modelseal.cli.auditing.cluster import Claim, Objects, Pod
from modelseal.cli.auditing.keyservice import Access, Use

UNPROVED: Final = (
    "an agent's log is the agent's own word: changed code can write it, or not write it",
    "a pod's object is matched by name and service account; one that is gone can't be matched",
    "what happened to a model after it was opened, such as a copy of memory, leaves no trace here",
    "openings with a key file or passphrase, and with a KV key that somebody kept, ask nobody",
    "times that the audit logs given here do not cover, and mounts that hide the context",
)


class Verdict(StrEnum):
    """What the join found; everything but the first two needs a person."""

    MATCHED = "matched"
    KEY_READ = "key read"
    """A KV key was read; openings and lease checks look the same."""
    NO_AGENT = "no agent's log has it"
    NO_POD = "no such pod"
    CONTRADICTION = "the records contradict each other"
    HIDDEN = "the log hides the model"
    EXPOSED = "key material came out in another way"


FINE: Final = frozenset({Verdict.MATCHED, Verdict.KEY_READ})


@dataclass(frozen=True, kw_only=True)
class Opening:
    """One line of the report."""

    access: Access
    claim: Claim | None
    pod: Pod | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that the join found."""

    openings: tuple[Opening, ...]
    refused: tuple[Access, ...]
    unrecorded: tuple[Claim, ...]
    """Openings that an agent claims and no audit log has."""

    @property
    def findings(self) -> int:
        """How many lines need a person."""
        wrong = sum(opening.verdict not in FINE for opening in self.openings)
        return wrong + len(self.unrecorded)


def join(accesses: Iterable[Access], claims: Iterable[Claim], objects: Objects | None) -> Report:
    """Join the three; without `objects`, pods are not looked for."""
    by_request: dict[str | None, list[Claim]] = {}
    for claim in claims:
        by_request.setdefault(claim.request, []).append(claim)
    ordered = sorted(accesses, key=lambda each: each.time)
    granted = [access for access in ordered if not access.refused]
    return Report(
        openings=tuple(
            _opening(access, by_request.get(access.request, []), objects) for access in granted
        ),
        refused=tuple(access for access in ordered if access.refused),
        unrecorded=tuple(_unrecorded(by_request, {access.request for access in granted})),
    )


def _unrecorded(claims: Mapping[str | None, list[Claim]], seen: set[str]) -> Iterator[Claim]:
    """Yield what agents claim of a key service and its log lacks; other keys ask nobody."""
    for request, each in claims.items():
        if each[0].key.startswith("vault") and request not in seen:
            yield from each


def _opening(access: Access, claims: Sequence[Claim], objects: Objects | None) -> Opening:
    claim = claims[0] if claims else None
    pod = _pod(access, claim, objects.pods) if claim and objects else None
    if len({each.host for each in claims}) > 1:
        verdict = Verdict.CONTRADICTION
    else:
        verdict = _without_agent(access, claim) or _with_pod(access, claim, pod, objects)
    return Opening(access=access, claim=claim, pod=pod, verdict=verdict)


def _pod(access: Access, claim: Claim, pods: Sequence[Pod]) -> Pod | None:
    """Return the pod whose agent made the claim; a pod's host name is its name."""
    named = [pod for pod in pods if pod.name == claim.host and pod.created <= access.time]
    own = [pod for pod in named if pod.namespace == access.namespace]
    return next(iter(own or named), None)


def _without_agent(access: Access, claim: Claim | None) -> Verdict | None:
    """Return the verdict where the key service's record is all there is to look at."""
    if access.use in (Use.BATCH, Use.DATA_KEY, Use.EXPORT):
        return Verdict.EXPOSED
    if claim is None:
        return Verdict.KEY_READ if access.use is Use.KEK_READ else Verdict.NO_AGENT
    hidden = access.use is Use.OPENING and access.model is None
    return Verdict.HIDDEN if hidden else None


def _with_pod(
    access: Access, claim: Claim | None, pod: Pod | None, objects: Objects | None
) -> Verdict:
    if claim is None or (access.model is not None and access.model != claim.model):
        return Verdict.CONTRADICTION
    if objects is None:
        return Verdict.MATCHED
    if pod is None:
        return Verdict.NO_POD
    return Verdict.MATCHED if _agrees(access, claim, pod, objects) else Verdict.CONTRADICTION


def _agrees(access: Access, claim: Claim, pod: Pod, objects: Objects) -> bool:
    """Say whether the pod is the account's, and is there for the model that was opened."""
    if access.account is not None and (access.namespace, access.account) != (
        pod.namespace,
        pod.account,
    ):
        return False
    meant = [
        model
        for namespace, name, model in objects.models
        if (namespace, name) == (pod.namespace, pod.resource)
    ]
    return not meant or claim.model in meant
