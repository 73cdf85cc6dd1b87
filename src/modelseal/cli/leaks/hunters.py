"""A privileged pod on every node, for as long as the check lasts, and what it is asked."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelseal.cli import shipped
from modelseal.cli.kubectl import Json, Kubectl

NAMESPACE: Final = "modelseal-leakcheck"
_NAME: Final = "hunter"
_MODULES: Final = tuple(
    f"modelseal.cli.leaks.{name}"
    for name in (
        *("needles", "places", "plants", "filesystems", "processes"),
        *("swap", "etcd", "nodeplants", "node"),
    )
)
"""What runs on a node, all of it standard library."""
_ARCHIVE: Final = "/hunter/leaks.zip"


@dataclass(frozen=True, kw_only=True)
class Hunter:
    """One node's pod."""

    kube: Kubectl
    pod: str
    node: str

    def ask(self, verb: str, **question: Any) -> Any:
        """Let the node's program answer one question."""
        content = json.dumps({"verb": verb, **question}).encode()
        return json.loads(self.kube.python(self.pod, _ARCHIVE, given=content))


@contextlib.contextmanager
def hunting(kube: Kubectl, image: str) -> Iterator[list[Hunter]]:
    """Run a hunter on every node, in a namespace of their own that goes with the block."""
    there = kube.at(NAMESPACE)
    there.delete("namespace", NAMESPACE)
    try:
        there.apply(_namespace(), _daemons(image))
        there.run("rollout", "status", f"daemonset/{_NAME}", "--timeout=300s")
        yield [_ready(there, pod) for pod in there.get("pods", "-l", f"app={_NAME}")["items"]]
    finally:
        there.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


def _ready(kube: Kubectl, pod: Mapping[str, Any]) -> Hunter:
    name = pod["metadata"]["name"]
    kube.python(name, *shipped.keep(_ARCHIVE), given=program())
    return Hunter(kube=kube, pod=name, node=pod["spec"]["nodeName"])


def program() -> bytes:
    """Return what runs on a node."""
    return shipped.archive("modelseal.cli.leaks.node", _MODULES)


def _namespace() -> Json:
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": labels},
    }


def _daemons(image: str) -> Json:
    container = {
        "name": _NAME,
        "image": image,
        "command": list(shipped.WAIT),
        "securityContext": {"privileged": True, "runAsUser": 0, "runAsGroup": 0},
        "volumeMounts": [{"name": "hunter", "mountPath": "/hunter"}],
    }
    pod = {
        "hostPID": True,
        "automountServiceAccountToken": False,
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "hunter", "emptyDir": {}}],
    }
    labels = {"app": _NAME}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": _NAME, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
