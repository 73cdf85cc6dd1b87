"""Whatever stands in a pod's way becomes one reason that says what to do, and goes away with it."""

import json
from typing import Any

import pytest

from modelseal.contract import AGENT_CONTAINER, RUNTIME_CONTAINER
from support.control_plane import HOLD, wait_until
from support.kube_api import KubeApi
from support.operator_process import OperatorProcess
from support.tenant import Tenant

Json = dict[str, Any]
pytestmark = pytest.mark.controlplane
THEN = "2026-11-25T10:00:00Z"
HELD: Json = {"template": {"metadata": {"labels": {HOLD: "yes"}}}}


@pytest.fixture
def ready(operator: OperatorProcess, tenant: Tenant) -> Tenant:
    tenant.provider()
    return tenant


def only_pod(tenant: Tenant) -> str:
    """Wait for the model's one pod and return its name."""
    (name,) = wait_until(lambda: tenant.children()["Pod"], "there is a pod")
    return str(name)


def tell(tenant: Tenant, **status: object) -> None:
    """Write the status of the model's pod, as a kubelet would."""
    pod = only_pod(tenant)
    tenant.api.patch("Pod", pod, {"status": status}, tenant.namespace, "status")


def container(name: str, state: Json, last: Json | None = None) -> Json:
    return {
        "name": name,
        "image": "registry.example.org/image:1",
        "imageID": "",
        "ready": False,
        "restartCount": 1,
        "state": state,
        "lastState": last or {},
    }


def ended(code: int, reason: str = "Error", message: str = "") -> Json:
    times = {"startedAt": THEN, "finishedAt": THEN}
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, **times}}


def farewell(stage: str, reason: str, **more: object) -> Json:
    return ended(40, message=json.dumps({"stage": stage, "reason": reason, **more}))


BACKOFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
AGENT_TROUBLE: tuple[tuple[Json, str, str], ...] = (
    (farewell("Unwrap", "KeyAccessDenied"), "KeyAccessDenied", "role"),
    (farewell("Decrypt", "SegmentInvalid"), "SegmentInvalid", ""),
    (farewell("Signature", "SignatureInvalid"), "SignatureInvalid", ""),
    (farewell("Policy", "RollbackRejected"), "RollbackRejected", ""),
    (farewell("Policy", "Expired"), "Expired", ""),
    (farewell("Policy", "ModelNameMismatch"), "ModelNameMismatch", ""),
    (farewell("Policy", "ModelTooLarge", modelSize=3 << 30), "ModelTooLarge", "3221225472"),
    (farewell("Fetch", "SourceUnavailable"), "SourceUnavailable", ""),
    (farewell("Unwrap", "KeyServiceUnavailable"), "KeyServiceUnavailable", ""),
    (farewell("Lease", "LeaseStale"), "LeaseStale", ""),
    (ended(137, "OOMKilled"), "OutOfMemory", "modelSize 512Mi"),
    (ended(1), "CrashLooping", "container 'agent'"),
)


@pytest.mark.parametrize(("last", "reason", "words"), AGENT_TROUBLE)
def test_an_agent_that_keeps_ending_is_a_reason_until_the_pod_is_ready(
    ready: Tenant, last: Json, reason: str, words: str
) -> None:
    ready.model(**HELD)
    tell(ready, initContainerStatuses=[container(AGENT_CONTAINER, BACKOFF, last)])
    assert words in ready.wait(reason)["message"]
    told = ready.get()["status"]
    assert told["lastFailure"]["reason"] == reason
    wait_until(lambda: reason in warned(ready), "an Event warns of it too")
    conditions = [{"type": "Ready", "status": "True"}]
    tell(ready, phase="Running", conditions=conditions, initContainerStatuses=[])
    ready.serving()
    assert ready.get()["status"]["lastFailure"]["reason"] == reason


def warned(tenant: Tenant) -> list[str]:
    return [raw["reason"] for raw in tenant.of("Event") if raw["type"] == "Warning"]


@pytest.mark.parametrize(
    ("waiting", "reason"),
    [
        ("ImagePullBackOff", "ImagePullFailed"),
        ("ErrImagePull", "ImagePullFailed"),
        ("InvalidImageName", "ImagePullFailed"),
        ("CreateContainerConfigError", "ContainerConfigInvalid"),
        ("CrashLoopBackOff", "CrashLooping"),
    ],
)
def test_a_container_that_cannot_start_is_a_reason(
    ready: Tenant, waiting: str, reason: str
) -> None:
    ready.model(**HELD)
    state = {"waiting": {"reason": waiting, "message": "secret not found"}}
    tell(ready, containerStatuses=[container(RUNTIME_CONTAINER, state)])
    assert RUNTIME_CONTAINER in ready.wait(reason)["message"]


def test_a_denied_key_is_told_by_its_own_condition(ready: Tenant) -> None:
    ready.model(**HELD)
    last = farewell("Unwrap", "KeyAccessDenied")
    tell(ready, initContainerStatuses=[container(AGENT_CONTAINER, BACKOFF, last)])
    ready.wait("KeyAccessDenied", kind="KeyAvailable")
    assert ready.says(kind="Accepted") == ("True", "Accepted")


def test_a_pod_without_a_node_is_unschedulable(ready: Tenant) -> None:
    ready.model(template={"nodeSelector": {"no-such": "node"}})
    assert "the scheduler says" in ready.wait("Unschedulable")["message"]
    ready.patch({"template": {"nodeSelector": None}})
    ready.serving()


def test_an_update_without_room_is_named_and_the_old_pod_serves(ready: Tenant) -> None:
    ready.model()
    ready.serving()
    ready.patch({"template": {"nodeSelector": {"no-such": "node"}}})
    assert "rollout.strategy" in ready.wait("NoRoomForUpdate")["message"]
    assert ready.says(kind="Available") == ("True", "Serving")


@pytest.mark.parametrize("what", ["pods", "services", "configmaps"])
def test_an_exceeded_quota_is_named(ready: Tenant, what: str) -> None:
    # the control plane itself puts a ConfigMap into every namespace
    used = len(ready.of("ConfigMap")) if what == "configmaps" else 0
    wait_until(lambda: ready.of("ConfigMap"), "the namespace has its CA")
    used = len(ready.of("ConfigMap")) if what == "configmaps" else 0
    quota = {"kind": "ResourceQuota", "apiVersion": "v1", "metadata": {"name": "q"}}
    ready.create({**quota, "spec": {"hard": {what: str(used)}}})
    wait_until(
        lambda: ready.get("q", "ResourceQuota").get("status", {}).get("hard"), "the quota counts"
    )
    ready.model()
    assert "q" in ready.wait("QuotaExceeded")["message"]


def test_a_missing_service_account_is_named(ready: Tenant) -> None:
    ready.model(serviceAccountName="nobody")
    assert "nobody" in ready.wait("ServiceAccountNotFound")["message"]


def test_a_pod_that_pod_security_refuses_is_named(ready: Tenant) -> None:
    ready.model()
    ready.serving()

    def add_sidecar(raw: Json) -> None:
        privileged = {"privileged": True, "allowPrivilegeEscalation": True}
        sidecar = {"name": "mesh", "image": "mesh:1", "securityContext": privileged}
        raw["spec"]["template"]["spec"]["containers"].append(sidecar)
        raw["spec"]["strategy"] = {"type": "Recreate"}

    ready.patch({"rollout": {"strategy": "Recreate"}})
    ready.serving()
    ready.api.edit("Deployment", "filetype", ready.namespace, add_sidecar)
    assert "restricted" in ready.wait("PodSecurityRefused")["message"]


def test_a_device_that_no_node_has_is_named_and_the_next_wish_is_taken(
    ready: Tenant, api: KubeApi
) -> None:
    everything = api.get("Node", "devices")["status"]["allocatable"]
    none = {"status": {"allocatable": {**everything, "npu.intel.com/accel": "0"}}}
    api.patch("Node", "devices", none, sub="status")
    try:
        ready.model("npu-only", device={"preference": ["NPU"]})
        assert "npu.intel.com/accel" in ready.wait("DeviceUnavailable", "npu-only")["message"]
        ready.model("npu-or-gpu", device={"preference": ["NPU", "GPU"]})
        ready.model("npu-or-cpu", device={"preference": ["NPU", "CPU"]})
        gpu = ready.serving("npu-or-gpu")["status"]["device"]
        assert gpu == {"selected": "GPU", "resourceName": "gpu.intel.com/xe"}
        assert ready.serving("npu-or-cpu")["status"]["device"] == {"selected": "CPU"}
    finally:
        api.patch("Node", "devices", {"status": {"allocatable": everything}}, sub="status")
    ready.serving("npu-only")
    pod = next(raw for raw in ready.of("Pod") if "npu-only" in raw["metadata"]["name"])
    assert pod["spec"]["nodeName"] == "devices"
