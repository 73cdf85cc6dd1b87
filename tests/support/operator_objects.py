"""EncryptedModels and providers for tests of the operator, as the API server would deliver them."""

import copy
from pathlib import Path
from typing import Any

import yaml

from modelseal_operator.children import Context
from modelseal_operator.devices import choose_device
from modelseal_operator.provider import Kind, parse_provider
from modelseal_operator.resolve import Resolved, resolve
from modelseal_operator.resource import parse_model
from modelseal_operator.settings import PodSettings

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
SIGNER = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
OTHER_SIGNER = "ed25519:22qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
PODS = PodSettings(agent_image="agent:test", runtime_image="runtime:test")
Json = dict[str, Any]


def example(name: str) -> Json:
    """Return one of docs/examples, with a uid and a generation as if it had been applied."""
    found: Json = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8"))
    found["metadata"] |= {"uid": f"uid-of-{name}", "generation": 1, "resourceVersion": "1"}
    return found


def merged(base: Json, change: Json) -> Json:
    """Return `base` with `change` merged into it; None removes a field."""
    found = copy.deepcopy(base)
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = merged(found[key], value)
        else:
            found[key] = copy.deepcopy(value)
    return found


def model_object(**spec: object) -> Json:
    """Return the smallest EncryptedModel with changes to its spec."""
    return merged(example("filetype"), {"spec": dict(spec)})


def provider_object(**spec: object) -> Json:
    """Return the namespaced KeyProvider with changes to its spec."""
    return merged(example("keyprovider"), {"spec": dict(spec)})


def cluster_provider_object(**spec: object) -> Json:
    """Return the ClusterKeyProvider with changes to its spec."""
    return merged(example("clusterkeyprovider"), {"spec": dict(spec)})


def resolved(model: Json | None = None, provider: Json | None = None) -> Resolved:
    """Return a model resolved against a provider."""
    found = provider or provider_object()
    kind: Kind = "KeyProvider" if found["kind"] == "KeyProvider" else "ClusterKeyProvider"
    return resolve(parse_model(model or model_object()), parse_provider(kind, found))


def context(model: Json | None = None, provider: Json | None = None) -> Context:
    """Return what children are built from."""
    found = resolved(model, provider)
    device = choose_device(found.model.devices, None, PODS)
    return Context(resolved=found, settings=PODS, device=device)
