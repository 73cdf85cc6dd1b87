"""What all children share: names, labels, the owner, and the hash of what is desired."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelseal.contract import (
    ANNOTATION_DESIRED,
    API_VERSION,
    FIELD_MANAGER,
    GROUP,
    LABEL_MANAGED_BY,
    LABEL_MODEL,
)
from modelseal_operator.devices import Device
from modelseal_operator.resolve import Resolved
from modelseal_operator.resource import EncryptedModel
from modelseal_operator.settings import PodSettings

Json = dict[str, Any]
"""An object as the API server takes it."""

API_VERSIONS: Final = {
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "Service": "v1",
}
"""The kinds of children; the operator has rights on no others."""

_HASH_LENGTH: Final = 20


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything that children are computed from."""

    resolved: Resolved
    settings: PodSettings
    device: Device

    @property
    def model(self) -> EncryptedModel:
        """The resource itself."""
        return self.resolved.model


def digest_of(value: object) -> str:
    """Return a short hash of a JSON value that does not depend on the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]


def selector_labels(name: str) -> dict[str, str]:
    """Return the labels that select a model's pods; they never change."""
    return {LABEL_MANAGED_BY: FIELD_MANAGER, LABEL_MODEL: name}


def common_labels(name: str) -> dict[str, str]:
    """Return the labels of every child."""
    return {
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/name": "modelseal",
        **selector_labels(name),
    }


def owner_reference(model: EncryptedModel) -> Json:
    """Return the reference that makes the API server delete children with their resource."""
    # no blockOwnerDeletion: it would need rights on the resource's finalizers
    return {
        "apiVersion": f"{GROUP}/{API_VERSION}",
        "kind": "EncryptedModel",
        "name": model.name,
        "uid": model.uid,
        "controller": True,
    }


def child(
    model: EncryptedModel,
    kind: str,
    name: str,
    content: Mapping[str, Any],
    annotations: Mapping[str, str] | None = None,
) -> Json:
    """Return a whole child with its metadata and the hash of everything in it."""
    found: Json = {
        "apiVersion": API_VERSIONS[kind],
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": model.namespace,
            "labels": common_labels(model.name),
            "annotations": dict(annotations or {}),
            "ownerReferences": [owner_reference(model)],
        },
        **content,
    }
    found["metadata"]["annotations"][ANNOTATION_DESIRED] = digest_of(found)
    return found


def without_none(value: Mapping[str, Any]) -> Json:
    """Drop the fields that are None or empty."""
    return {key: item for key, item in value.items() if item not in (None, [], {}, ())}
