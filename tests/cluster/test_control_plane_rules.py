"""What the API server refuses, and with which sentence: every rule of the CRDs."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.control_plane import ControlPlane
from support.installation import objects
from support.kube_api import ApiRefused, KubeApi
from support.operator_objects import merged
from support.tenant import example

Json = dict[str, Any]
pytestmark = pytest.mark.controlplane
DRY = "?dryRun=All"
PEER = {"ports": [443]}
SERVER = {"image": "r.example.org/ovms@sha256:" + "0" * 64}
PROVIDER_CASES: tuple[tuple[Json, str], ...] = (
    ({"signers": None}, "pin at least one signer"),
    ({"allowUnsigned": True}, "pin at least one signer"),
    ({"signers": []}, "pin at least one signer"),
    ({"vault": {"kv": {"path": "a", "version": 1}}}, "set transit or kv, not both"),
    (
        {"lease": {"intervalSeconds": 60, "maxStaleSeconds": 59}},
        "maxStaleSeconds must not be below",
    ),
    (
        {"delivery": {"allowTmpfs": False, "serverImages": [SERVER["image"]]}},
        "serverImages have no",
    ),
    ({"egress": [PEER]}, "set either cidr, or namespaceLabels"),
    ({"egress": [PEER | {"cidr": "10.0.0.0/8", "podLabels": {"a": "b"}}]}, "set either cidr"),
    ({"egress": [PEER | {"cidr": "10.0.0.0"}]}, "must be an address range, such as 203.0.113.7/32"),
)
MODEL_CASES: tuple[tuple[Json, str], ...] = (
    ({"metadata": {"name": "a" * 51}}, "the name becomes the Service's name"),
    ({"metadata": {"name": "1a"}}, "the name becomes the Service's name"),
    ({"metadata": {"name": "a.b"}}, "the name becomes the Service's name"),
    ({"spec": {"delivery": "Tmpfs"}}, "server and delivery Tmpfs belong together"),
    ({"spec": {"server": SERVER}}, "server and delivery Tmpfs belong together"),
    ({"spec": {"compiledSize": "0"}}, "compiledSize must be a quantity above 0"),
    ({"spec": {"compiledSize": "much"}}, "compiledSize must be a quantity above 0"),
    ({"spec": {"source": {"http": {"url": "https://a.b/c"}}}}, "set exactly one of"),
    ({"spec": {"source": {"persistentVolumeClaim": None}}}, "set exactly one of"),
    (
        {"spec": {"source": {"persistentVolumeClaim": {"path": "a/../../etc"}}}},
        "the path must stay on the volume",
    ),
    (
        {"spec": {"source": {"http": {"url": "https://a.b", "egress": [PEER | {"cidr": "x"}]}}}},
        "must be an address range, such as 203.0.113.0/24",
    ),
    (
        {"spec": {"source": {"image": {"reference": SERVER["image"], "path": "./a"}}}},
        "the path must stay in the image",
    ),
    ({"spec": {"serviceAccountName": "default"}}, "'default' is shared by every pod"),
    ({"spec": {"modelSize": "0"}}, "must be a quantity above 0 and below 8Ti"),
    ({"spec": {"modelSize": "9Ti"}}, "must be a quantity above 0 and below 8Ti"),
    ({"spec": {"modelSize": -1}}, "must be a quantity above 0 and below 8Ti"),
    (
        {"spec": {"delivery": "Tmpfs", "server": SERVER | {"runAsUser": 10001}}},
        "10001 is the agent's uid",
    ),
    ({"spec": {"device": {"preference": ["CPU", "GPU", "CPU"]}}}, "name each device once"),
    ({"spec": {"device": {"combine": "Auto"}}}, "combine needs another device"),
    (
        {"spec": {"device": {"combine": "Auto", "preference": ["CPU", "GPU"]}}},
        "combine needs another device in preference and CPU after it",
    ),
    ({"spec": {"device": {"properties": ["CPU.CACHE_DIR=/tmp"]}}}, "must be DEVICE.PROPERTY=VALUE"),
    ({"spec": {"device": {"properties": ["CPU.NUM_STREAMS=x"]}}}, "must be DEVICE.PROPERTY=VALUE"),
    ({"spec": {"device": {"properties": ["TPU.NUM_STREAMS=1"]}}}, "must be DEVICE.PROPERTY=VALUE"),
    (
        {"spec": {"serving": {"batching": {"maxRows": 1025}}}},
        "should be less than or equal to 1024",
    ),
    ({"spec": {"serving": {"maxBodySize": "1023"}}}, "must be a quantity from 1Ki to 2Gi"),
    ({"spec": {"serving": {"maxBodySize": "3Gi"}}}, "must be a quantity from 1Ki to 2Gi"),
    (
        {"spec": {"template": {"metadata": {"labels": {"modelseal.dev/model": "other"}}}}},
        "labels of modelseal.dev/ and app.kubernetes.io/ are set",
    ),
    (
        {"spec": {"template": {"metadata": {"labels": {"app.kubernetes.io/name": "other"}}}}},
        "labels of modelseal.dev/ and app.kubernetes.io/ are set",
    ),
    (
        {"spec": {"template": {"metadata": {"annotations": {"modelseal.dev/x": "1"}}}}},
        "annotations of modelseal.dev/ are set",
    ),
    (
        {"spec": {"rollout": {"drainSeconds": 60, "terminationGracePeriodSeconds": 60}}},
        "drainSeconds must be below",
    ),
    ({"spec": {"allowFrom": [{}]}}, "set either cidr, or namespaceLabels"),
    ({"spec": {"allowFrom": [{"cidr": "10.0.0.0/33"}]}}, "must be an address range, such as 10.0"),
)
AFTERWARDS = "a resource serves one model for life"


@pytest.fixture(autouse=True)
def namespace(plane: ControlPlane, api: KubeApi) -> str:
    if api.find("Namespace", "rules") is None:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "rules"}})
    return "rules"


def model(**change: Any) -> Json:
    return merged(example("filetype"), {"metadata": {"namespace": "rules"}, **change})


def refused(api: KubeApi, raw: Json) -> str:
    with pytest.raises(ApiRefused) as caught:
        api.create(raw, DRY)
    assert caught.value.status == 422, caught.value
    return caught.value.message


@pytest.mark.parametrize("name", ["keyprovider", "clusterkeyprovider"])
@pytest.mark.parametrize(("spec", "sentence"), PROVIDER_CASES)
def test_a_wrong_provider_is_refused_with_a_sentence(
    api: KubeApi, name: str, spec: Json, sentence: str
) -> None:
    raw = example(name)
    where = {} if name == "clusterkeyprovider" else {"metadata": {"namespace": "rules"}}
    assert sentence in refused(api, merged(raw, {"spec": spec, **where}))


@pytest.mark.parametrize(("change", "sentence"), MODEL_CASES)
def test_a_wrong_model_is_refused_with_a_sentence(
    api: KubeApi, change: Json, sentence: str
) -> None:
    assert sentence in refused(api, merged(model(), change))


def test_a_resource_keeps_its_model_for_life(api: KubeApi) -> None:
    api.create(model())
    try:
        with pytest.raises(ApiRefused) as caught:
            api.patch(
                "EncryptedModel", "filetype", {"spec": {"model": {"name": "vision/other"}}}, "rules"
            )
        assert AFTERWARDS in caught.value.message
    finally:
        api.delete("EncryptedModel", "filetype", "rules")


def test_every_rule_of_the_crds_is_among_these_tests() -> None:
    cases = [*MODEL_CASES, *PROVIDER_CASES]
    sentences = [AFTERWARDS, *(sentence for _, sentence in cases)]
    rules = list(_rules(crds()))
    assert len(rules) >= 30
    untested = [rule for rule in rules if not any(sentence in rule for sentence in sentences)]
    assert untested == []


@pytest.mark.parametrize("name", ["keyprovider", "clusterkeyprovider"])
def test_a_provider_with_a_kv_key_is_accepted(api: KubeApi, name: str) -> None:
    vault = {"transit": None, "kv": {"path": "models/{name}", "version": 3}}
    raw = merged(example(name), {"spec": {"vault": vault}})
    if name == "keyprovider":
        raw["metadata"]["namespace"] = "rules"
    assert "transit" not in api.create(raw, DRY)["spec"]["vault"]


@pytest.mark.parametrize(
    "field", ["spec.modelsize", "spec.source.pvc", "spec.template.spec", "status.extra"]
)
def test_an_unknown_field_is_named_where_strict_validation_is_asked_for(
    api: KubeApi, field: str
) -> None:
    change: Json = {}
    *parents, last = field.split(".")
    inner = change
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[last] = {}
    with pytest.raises(ApiRefused) as caught:
        api.create(merged(model(), change), f"{DRY}&fieldValidation=Strict")
    assert f'unknown field "{field}"' in caught.value.message


def crds() -> list[Json]:
    kinds = [raw for raw in objects() if raw["kind"] == "CustomResourceDefinition"]
    return [raw["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for raw in kinds]


def _rules(nodes: list[Json]) -> Iterator[str]:
    for node in nodes:
        yield from (rule["message"] for rule in node.get("x-kubernetes-validations", ()))
        yield from _rules(list(node.get("properties", {}).values()))
        yield from _rules([node[k] for k in ("items",) if k in node])
