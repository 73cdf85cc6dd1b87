"""Children of a model on a real API server: made, kept, and gone with it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from support.audit import Audit
from support.control_plane import HOLD, wait_until
from support.kube_api import KubeApi
from support.operator_process import OperatorProcess
from support.tenant import Tenant, example

Json = dict[str, Any]
pytestmark = pytest.mark.controlplane
NAMES = {
    "ConfigMap": "filetype-provider",
    "NetworkPolicy": "filetype",
    "Service": "filetype",
    "Deployment": "filetype",
}


@pytest.fixture
def served(operator: OperatorProcess, tenant: Tenant) -> Tenant:
    """Return a namespace with a model that is served."""
    tenant.provider()
    tenant.model()
    tenant.serving()
    operator.settle()
    return tenant


def test_every_example_of_the_documentation_is_served_with_all_of_its_children(
    operator: OperatorProcess, new_tenant: Callable[..., Tenant], api: KubeApi
) -> None:
    tenant = new_tenant("vision")
    for name in (
        "keyprovider",
        "clusterkeyprovider",
        "filetype",
        "filetype-full",
        "filetype-tmpfs",
    ):
        api.create(example(name))
    try:
        for name in ("filetype", "filetype-full", "filetype-ovms"):
            tenant.serving(name)
        wait_until(
            lambda: tenant.get("filetype-full")["status"]["readyReplicas"] == 2,
            "both pods are told",
        )
        found = tenant.children()
        full = tenant.get("filetype-full")
    finally:
        api.delete("ClusterKeyProvider", "company")
    for name in ("filetype", "filetype-full", "filetype-ovms"):
        assert {name, f"{name}-pods"} <= set(found["Service"])
        assert name in found["Deployment"]
        assert name in found["NetworkPolicy"]
        assert f"{name}-provider" in found["ConfigMap"]
    assert found["PodDisruptionBudget"] == ["filetype-full"]
    assert len(found["Pod"]) == 4
    assert full["status"]["device"] == {"selected": "NPU", "resourceName": "npu.intel.com/accel"}
    assert full["status"]["egress"] == "Limited"


@pytest.mark.parametrize("kind", NAMES)
def test_a_deleted_child_comes_back(operator: OperatorProcess, served: Tenant, kind: str) -> None:
    before = served.get(NAMES[kind], kind)["metadata"]["uid"]
    served.api.delete(kind, NAMES[kind], served.namespace)

    def back() -> bool:
        found = served.find(kind, NAMES[kind])
        return found is not None and found["metadata"]["uid"] != before

    wait_until(back, f"the {kind} came back")
    served.serving()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("ConfigMap", {"data": {"max-stale": "604800"}}),
        ("NetworkPolicy", {"spec": {"podSelector": {"matchLabels": {"app": "other"}}}}),
        ("Service", {"spec": {"selector": {"modelseal.dev/model": "other"}}}),
        ("Deployment", {"spec": {"replicas": 5}}),
        ("Deployment", {"metadata": {"labels": {"modelseal.dev/model": "other"}}}),
    ],
)
def test_what_somebody_changes_in_a_child_is_changed_back(
    operator: OperatorProcess, served: Tenant, kind: str, change: Json
) -> None:
    def wanted() -> Json:
        raw = served.get(NAMES[kind], kind)
        kept = {k: dict(raw["metadata"][k]) for k in ("labels", "annotations")}
        kept["annotations"].pop("deployment.kubernetes.io/revision", None)
        return {"metadata": kept, **{k: raw[k] for k in ("data", "spec") if k in raw}}

    before = wanted()
    served.api.patch(kind, NAMES[kind], change, served.namespace)
    wait_until(lambda: wanted() == before, f"the {kind} is as it was")


def test_what_others_add_to_a_child_survives(operator: OperatorProcess, served: Tenant) -> None:
    foreign = {"metadata": {"annotations": {"example.org/owner": "mesh"}}}
    for kind, name in NAMES.items():
        served.api.patch(kind, name, foreign, served.namespace)
    served.patch({"allowFrom": [{"cidr": "203.0.113.0/24"}], "rollout": {"drainSeconds": 11}})
    served.serving()
    for kind, name in NAMES.items():
        assert served.get(name, kind)["metadata"]["annotations"]["example.org/owner"] == "mesh"


@pytest.mark.parametrize("kind", NAMES)
def test_a_strangers_object_of_the_same_name_is_named_and_left_alone(
    operator: OperatorProcess, tenant: Tenant, kind: str
) -> None:
    tenant.provider()
    tenant.model("original")
    tenant.serving("original")
    stranger = copy.deepcopy(tenant.get(NAMES[kind].replace("filetype", "original"), kind))
    stranger["metadata"] = {"name": NAMES[kind], "namespace": tenant.namespace}
    for field in ("clusterIP", "clusterIPs"):
        stranger.get("spec", {}).pop(field, None)
    made = tenant.api.create(stranger)
    tenant.model()
    condition = tenant.wait("NameConflict")
    assert kind in condition["message"]
    assert tenant.get(NAMES[kind], kind)["metadata"]["uid"] == made["metadata"]["uid"]
    assert tenant.get(NAMES[kind], kind).get("spec") == made.get("spec")
    tenant.api.delete(kind, NAMES[kind], tenant.namespace)
    tenant.api.patch(
        "EncryptedModel", "filetype", {"metadata": {"labels": {"again": "1"}}}, tenant.namespace
    )
    tenant.serving()


def test_a_pass_that_changes_nothing_writes_nothing(
    served: Tenant, operator: OperatorProcess, audit: Audit
) -> None:
    before = operator.metric("modelseal_operator_reconciles_total")
    label = {"metadata": {"labels": {"touched": "yes"}}}
    served.api.patch("EncryptedModel", "filetype", label, served.namespace)
    wait_until(
        lambda: operator.metric("modelseal_operator_reconciles_total") > before, "a pass was made"
    )
    operator.settle()
    assert audit.writes(served.namespace) == []


def test_suspending_stops_the_pods_and_resuming_starts_them(
    operator: OperatorProcess, served: Tenant
) -> None:
    served.patch({"suspend": True})
    served.wait("Suspended")
    wait_until(lambda: served.children()["Pod"] == [], "the pods are gone")
    assert served.find("Service") is not None
    served.patch({"suspend": False})
    served.serving()


def test_the_scale_subresource_scales_and_tells_what_an_autoscaler_needs(
    operator: OperatorProcess, served: Tenant
) -> None:
    served.api.patch(
        "EncryptedModel", "filetype", {"spec": {"replicas": 3}}, served.namespace, "scale"
    )

    def scaled() -> bool:
        scale = served.api.call(
            "GET",
            f"/apis/modelseal.dev/v1alpha1/namespaces/{served.namespace}"
            "/encryptedmodels/filetype/scale",
        )
        assert "modelseal.dev/model=filetype" in scale["status"]["selector"]
        return bool(scale["status"]["replicas"] == 3)

    wait_until(scaled, "three pods are told")
    served.serving()
    assert served.find("PodDisruptionBudget") is not None
    served.patch({"replicas": 0})
    served.wait("ScaledToZero")
    wait_until(lambda: served.find("PodDisruptionBudget") is None, "the budget is gone")


def test_a_bad_update_keeps_the_old_revision_serving(
    operator: OperatorProcess, served: Tenant
) -> None:
    (old,) = served.children()["Pod"]
    served.patch({"template": {"metadata": {"labels": {HOLD: "yes"}}}})
    wait_until(lambda: len(served.children()["Pod"]) == 2, "the new pod is there")
    wait_until(lambda: served.says()[0] == "False", "the model is not ready")
    assert served.says(kind="Available") == ("True", "Serving")
    pod = served.get(old, "Pod")
    assert "deletionTimestamp" not in pod["metadata"]
    served.patch({"template": {"metadata": {"labels": {HOLD: None}}}})
    served.serving()
    wait_until(lambda: served.children()["Pod"] == [old], "the new pod is gone")


def test_deleting_a_model_leaves_nothing(operator: OperatorProcess, served: Tenant) -> None:
    served.api.delete("EncryptedModel", "filetype", served.namespace)
    wait_until(lambda: not any(served.children().values()), "all children are gone")
