"""A pod that mounts a claim for as long as it takes, and answers questions about what is there."""

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelseal.cli import pods, shipped
from modelseal.cli.kubectl import Json, Kubectl, agent_image, condition, until
from modelseal.contract import AGENT_CONTAINER
from modelseal.errors import SettingsError, shown

MOUNT: Final = "/models"
_PROGRAM: Final = "/program/claim.zip"
_MAIN: Final = "modelseal.cli.on_claim"
_MODULES: Final = ("modelseal.contract", "modelseal.cli.atomic", _MAIN)
_LIFE_SECONDS: Final = 3600
"""How long the pod may live where nobody is left to delete it."""


@dataclass(frozen=True, kw_only=True)
class Means:
    """How the claims of one command are reached."""

    kubectl: str
    image: str | None
    """An image with python3; by default that of an agent."""
    user: int
    """Who may write on the volume."""


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """The pod."""

    kube: Kubectl
    pod: str

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Let `on_claim` answer one question."""
        given = json.dumps(question).encode()
        answer: dict[str, Any] = json.loads(self.kube.python(self.pod, _PROGRAM, given=given))
        return answer


@contextlib.contextmanager
def carrying(kube: Kubectl, claim: str, means: Means) -> Iterator[Carrier]:
    """Run a pod that mounts the claim, where a pod that has it already runs.

    Raises:
        SettingsError: there is no such claim, or no image to mount it with.
        ServingError: the pod does not come up; with what it says of itself.

    """
    if not kube.get("persistentvolumeclaim", claim):
        raise SettingsError(
            f"failed to reach the claim {shown(claim)}: "
            f"there is none in the namespace {shown(kube.namespace)}"
        )
    users = [pod for pod in kube.get("pods").get("items", []) if _mounts(pod, claim)]
    image = means.image or _agents(users) or agent_image(kube)
    name = f"modelseal-claim-{secrets.token_hex(4)}"
    try:
        kube.apply(_pod(name, claim, means, image, _node(users)))
        until(
            "the pod that mounts the claim is not ready",
            lambda: condition(_seen(kube, name)).get("status") == "True",
            lambda: _why(kube, name),
        )
        program = shipped.archive(_MAIN, _MODULES)
        kube.python(name, *shipped.keep(_PROGRAM), given=program)
        yield Carrier(kube=kube, pod=name)
    finally:
        kube.run("delete", "pod", name, "--ignore-not-found", "--wait=false")


def _seen(kube: Kubectl, name: str) -> Json:
    return kube.get("pod", name)


def _mounts(pod: Json, claim: str) -> bool:
    volumes = pod["spec"].get("volumes", [])
    return any(
        volume.get("persistentVolumeClaim", {}).get("claimName") == claim for volume in volumes
    )


def _agents(users: Sequence[Json]) -> str | None:
    containers = (each for pod in users for each in pod["spec"]["containers"])
    found = (each["image"] for each in containers if each["name"] == AGENT_CONTAINER)
    return next(found, None)


def _node(users: Sequence[Json]) -> str | None:
    """Return where the volume is attached, because many can be attached to one node only."""
    running = (pod for pod in users if pod.get("status", {}).get("phase") == "Running")
    return next((str(pod["spec"]["nodeName"]) for pod in running), None)


def _why(kube: Kubectl, name: str) -> str:
    """Return what the pod says of itself: why it is not placed, or its container not started."""
    status = _seen(kube, name).get("status", {})
    waiting = (
        each.get("state", {}).get("waiting", {}) for each in status.get("containerStatuses", [])
    )
    said = [each.get("message") or each.get("reason") for each in waiting]
    said += [each.get("message") for each in status.get("conditions", [])]
    return "; ".join(str(each) for each in said if each) or "it says nothing"


def _pod(name: str, claim: str, means: Means, image: str, node: str | None) -> Json:
    volumes = {
        "models": {"persistentVolumeClaim": {"claimName": claim}},
        "program": {"emptyDir": {"sizeLimit": "1Mi"}},
    }
    pod = pods.restricted(name, image, shipped.WAIT, user=means.user, volumes=volumes)
    pod["spec"]["activeDeadlineSeconds"] = _LIFE_SECONDS
    if node:
        field = {"key": "metadata.name", "operator": "In", "values": [node]}
        terms = {"nodeSelectorTerms": [{"matchFields": [field]}]}
        pod["spec"]["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}
        }
    return pod
