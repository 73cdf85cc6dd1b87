"""A namespace as a team has it: Pod Security restricted, a service account, a volume."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from support.control_plane import wait_until
from support.kube_api import KubeApi
from support.operator_objects import merged

Json = dict[str, Any]
EXAMPLES: Final = Path(__file__).resolve().parents[2] / "docs" / "examples"
ACCOUNT: Final = "filetype"
CHILDREN: Final = (
    "ConfigMap",
    "NetworkPolicy",
    "Service",
    "PodDisruptionBudget",
    "Deployment",
    "ReplicaSet",
    "Pod",
)


def example(name: str) -> Json:
    """Return one of the documentation's examples."""
    found: Json = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


class Tenant:
    """One namespace and what a test does there."""

    def __init__(self, api: KubeApi, namespace: str | None = None) -> None:
        self.api: Final = api
        self.namespace: Final = namespace or f"team-{secrets.token_hex(3)}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        api.create(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": self.namespace, "labels": labels},
            }
        )
        self.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}})
        _make_volume(api, self.namespace)

    def create(self, raw: Json) -> Json:
        """Create an object in this namespace."""
        return self.api.create(merged(raw, {"metadata": {"namespace": self.namespace}}))

    def provider(self, **spec: object) -> Json:
        """Create the KeyProvider of the documentation, with changes."""
        return self.create(merged(example("keyprovider"), {"spec": spec}))

    def model(self, name: str = "filetype", **spec: object) -> Json:
        """Create the smallest EncryptedModel of the documentation, with changes."""
        changes = {"metadata": {"name": name}, "spec": spec}
        return self.create(merged(example("filetype"), changes))

    def get(self, name: str = "filetype", kind: str = "EncryptedModel") -> Json:
        """Return an object of this namespace."""
        return self.api.get(kind, name, self.namespace)

    def find(self, kind: str, name: str = "filetype") -> Json | None:
        """Return an object of this namespace, or None."""
        return self.api.find(kind, name, self.namespace)

    def patch(self, spec: Mapping[str, object], name: str = "filetype") -> Json:
        """Change the spec of a model."""
        return self.api.patch("EncryptedModel", name, {"spec": dict(spec)}, self.namespace)

    def of(self, kind: str) -> list[Json]:
        """Return all objects of a kind."""
        return self.api.list(kind, self.namespace)

    def children(self) -> dict[str, list[str]]:
        """Return the names of all that may belong to models, by kind."""
        ours = "?labelSelector=app.kubernetes.io/managed-by%3Dmodelseal-operator"
        return {
            kind: [raw["metadata"]["name"] for raw in self.api.list(kind, self.namespace, ours)]
            for kind in CHILDREN
        }

    def condition(self, kind: str = "Ready", name: str = "filetype") -> Json:
        """Return a condition; an empty object while there is none."""
        raw = self.find("EncryptedModel", name) or {}
        found: list[Json] = raw.get("status", {}).get("conditions", [])
        return next((c for c in found if c["type"] == kind), {})

    def says(self, name: str = "filetype", kind: str = "Ready") -> tuple[str, str]:
        """Return status and reason of a condition that speaks of the current spec."""
        raw = self.find("EncryptedModel", name) or {"metadata": {}}
        status = raw.get("status", {})
        if status.get("observedGeneration") != raw["metadata"].get("generation"):
            return "", ""
        found: Json = next((c for c in status["conditions"] if c["type"] == kind), {})
        return found.get("status", ""), found.get("reason", "")

    def wait(self, reason: str, name: str = "filetype", kind: str = "Ready") -> Json:
        """Wait until a condition has a reason, and return the condition."""
        try:
            wait_until(lambda: self.says(name, kind)[1] == reason, "")
        except AssertionError:
            found = (self.find("EncryptedModel", name) or {}).get("status")
            raise AssertionError(f"{kind} never became {reason}: {found}") from None
        return self.condition(kind, name)

    def serving(self, name: str = "filetype") -> Json:
        """Wait until a model is ready, and return it."""
        self.wait("Serving", name)
        return self.get(name)

    def remove(self) -> None:
        """Delete the namespace; the control plane takes its time."""
        self.api.delete("Namespace", self.namespace)
        self.api.delete("PersistentVolume", self.namespace)


def _make_volume(api: KubeApi, namespace: str) -> None:
    capacity = {"storage": "1Gi"}
    claim = {"namespace": namespace, "name": "models"}
    common = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    api.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": namespace},
            "spec": {
                **common,
                "capacity": capacity,
                "claimRef": claim,
                "persistentVolumeReclaimPolicy": "Retain",
                "csi": {"driver": "test.example.org", "volumeHandle": namespace, "readOnly": True},
            },
        }
    )
    api.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": claim,
            "spec": {
                **common,
                "resources": {"requests": capacity},
                "volumeName": namespace,
            },
        }
    )
    # a pod that comes before this makes the scheduler wait for a second or more
    wait_until(
        lambda: api.get("PersistentVolumeClaim", "models", namespace)["status"]["phase"] == "Bound",
        "the volume is bound",
    )
