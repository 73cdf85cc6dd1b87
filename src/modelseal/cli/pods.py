"""Pods of our own that run for as long as a command takes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelseal.cli.kubectl import Json

_RESOURCES: Final = {
    "requests": {"cpu": "50m", "memory": "64Mi", "ephemeral-storage": "16Mi"},
    "limits": {"cpu": "1", "memory": "512Mi", "ephemeral-storage": "16Mi"},
}
"""Named, because a namespace with a quota refuses a pod that does not name them."""


def restricted(
    name: str,
    image: str,
    command: Sequence[str],
    *,
    user: int,
    volumes: Mapping[str, Mapping[str, Any]],
) -> Json:
    """Return a pod that the standard `restricted` admits, without a token of the cluster.

    Args:
        name: of the pod.
        image: with python3.
        command: what its only container runs.
        user: uid and gid.
        volumes: for each name, which is also where it is mounted below `/`, the volume's source.

    """
    container = {
        "name": "carrier",
        "image": image,
        "command": list(command),
        "resources": _RESOURCES,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": each, "mountPath": f"/{each}"} for each in volumes],
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": each, **source} for each, source in volumes.items()],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
