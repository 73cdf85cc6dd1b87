"""The children of an EncryptedModel: golden manifests, and what must hold for every one of them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelseal.contract import (
    ANNOTATION_DESIRED,
    LABEL_TEMPLATE,
    REPORT_PORT,
    TOKEN_PATH,
)
from modelseal_operator.children import Context, build_children
from modelseal_operator.children.common import digest_of
from modelseal_operator.quantities import format_bytes, format_cpu, parse_quantity, whole_bytes
from support.operator_objects import (
    Json,
    cluster_provider_object,
    context,
    example,
    model_object,
    provider_object,
)

GOLDEN = Path(__file__).parent / "golden"
VARIANTS: dict[str, Callable[[], Context]] = {
    "filetype": context,
    "filetype-full": lambda: context(example("filetype-full"), cluster_provider_object()),
    "filetype-tmpfs": lambda: context(example("filetype-tmpfs"), cluster_provider_object()),
    "filetype-kv": lambda: context(
        provider=provider_object(
            vault={
                "transit": None,
                "kv": {"path": "models/{owner}/{name}", "version": 2},
                "caBundle": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n",
            },
            signers=None,
            allowUnsigned=True,
        )
    ),
}


def only(kind: str, children: list[Json], name: str | None = None) -> Any:
    found = [c for c in children if c["kind"] == kind and name in (None, c["metadata"]["name"])]
    assert len(found) == 1
    return found[0]


def pod_spec(children: list[Json]) -> Any:
    return only("Deployment", children)["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", VARIANTS)
def test_children_are_the_golden_ones(name: str) -> None:
    actual = yaml.safe_dump_all(build_children(VARIANTS[name]()), sort_keys=True)
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("MODELSEAL_UPDATE_GOLDEN"):
        golden.write_text(actual, encoding="utf-8")
    assert actual == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", VARIANTS)
def test_only_the_agent_sees_the_token_the_provider_and_the_source(name: str) -> None:
    spec = pod_spec(build_children(VARIANTS[name]()))
    (runtime,) = spec["containers"]
    mounted = {mount["name"] for mount in runtime["volumeMounts"]}
    assert mounted in ({"socket"}, {"delivery"})
    assert all(mount["readOnly"] for mount in runtime["volumeMounts"])
    (agent,) = spec["initContainers"]
    assert TOKEN_PATH.startswith(
        next(m["mountPath"] for m in agent["volumeMounts"] if m["name"] == "token")
    )
    assert spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", VARIANTS)
def test_pods_satisfy_the_restricted_pod_security_standard(name: str) -> None:
    spec = pod_spec(build_children(VARIANTS[name]()))
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(spec)
    uids = []
    for container in (*spec["containers"], *spec["initContainers"]):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        uids.append(security["runAsUser"])
    assert len(set(uids)) == 2
    assert 0 not in uids
    allowed = {"emptyDir", "projected", "configMap", "persistentVolumeClaim", "image", "secret"}
    assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])


def test_the_class_of_runtime_that_a_model_asks_for_is_passed_on_and_no_other() -> None:
    asked = context(model_object(template={"runtimeClassName": "kata-qemu-tdx"}))
    assert pod_spec(build_children(asked))["runtimeClassName"] == "kata-qemu-tdx"
    assert "runtimeClassName" not in pod_spec(build_children(context()))


@pytest.mark.parametrize("name", VARIANTS)
def test_plaintext_has_no_disk_backed_volume_to_go_to(name: str) -> None:
    spec = pod_spec(build_children(VARIANTS[name]()))
    empty = [v["emptyDir"] for v in spec["volumes"] if "emptyDir" in v]
    assert empty
    assert all(v["medium"] == "Memory" and v["sizeLimit"] for v in empty)
    writable = {
        m["name"]
        for c in (*spec["containers"], *spec["initContainers"])
        for m in c["volumeMounts"]
        if not m.get("readOnly")
    }
    assert writable <= {"socket", "delivery"}


def test_our_runtime_starts_beside_the_agent_and_another_server_after_its_files() -> None:
    ours = pod_spec(build_children(VARIANTS["filetype"]()))
    foreign = pod_spec(build_children(VARIANTS["filetype-tmpfs"]()))
    assert "startupProbe" not in ours["initContainers"][0]
    assert "startupProbe" in foreign["initContainers"][0]
    # nobody asks an agent that does not listen yet for the lease, whose first no ends a server
    assert ours["containers"][0]["startupProbe"]["httpGet"]["port"] == REPORT_PORT


def test_the_template_label_changes_with_the_template_and_with_nothing_else() -> None:
    def label(**spec: object) -> str:
        children = build_children(context(model_object(**spec)))
        template = only("Deployment", children)["spec"]["template"]
        return str(template["metadata"]["labels"][LABEL_TEMPLATE])

    assert label() == label(replicas=5) == label(networkPolicy="Unmanaged") == label(suspend=True)
    assert label() != label(modelSize="1Gi")


def test_the_lease_and_the_ca_are_not_in_the_template() -> None:
    ca = "-----BEGIN CERTIFICATE-----\na\n-----END CERTIFICATE-----\n"
    before = build_children(context(provider=provider_object(vault={"caBundle": ca})))
    changed = provider_object(
        vault={"caBundle": ca.replace("a", "b")}, lease={"intervalSeconds": 7}
    )
    after = build_children(context(provider=changed))
    assert only("Deployment", before)["spec"] == only("Deployment", after)["spec"]
    assert only("ConfigMap", before)["data"] != only("ConfigMap", after)["data"]


def test_every_child_carries_the_hash_of_itself_and_its_owner() -> None:
    for child in build_children(context()):
        stated = child["metadata"]["annotations"].pop(ANNOTATION_DESIRED)
        assert stated == digest_of(child)
        (owner,) = child["metadata"]["ownerReferences"]
        assert owner["uid"] == "uid-of-filetype"
        assert "blockOwnerDeletion" not in owner


def test_egress_is_limited_only_if_every_peer_is_listed() -> None:
    egress = [{"cidr": "203.0.113.7/32", "ports": [8200]}]
    web = {"persistentVolumeClaim": None, "http": {"url": "https://models.example.org/x"}}
    listed = {"http": {"url": "https://m.example.org/x", "egress": egress}}
    for model, provider, limited in (
        (model_object(), provider_object(), False),
        (model_object(), provider_object(egress=egress), True),
        (model_object(source=web), provider_object(egress=egress), False),
        (model_object(source=web | listed), provider_object(egress=egress), True),
    ):
        policy = only("NetworkPolicy", build_children(context(model, provider)))
        assert ("Egress" in policy["spec"]["policyTypes"]) is limited


def test_a_budget_exists_only_for_more_than_one_pod() -> None:
    for replicas, expected in ((0, 0), (1, 0), (2, 1)):
        children = build_children(context(model_object(replicas=replicas)))
        assert sum(c["kind"] == "PodDisruptionBudget" for c in children) == expected


def test_memory_follows_from_the_declared_sizes() -> None:
    spec = pod_spec(build_children(context(model_object(modelSize="1Gi", compiledSize="3Gi"))))
    (agent,), (runtime,) = spec["initContainers"], spec["containers"]
    assert whole_bytes(agent["resources"]["limits"]["memory"]) >= 1 << 30
    assert whole_bytes(runtime["resources"]["limits"]["memory"]) >= (3 << 30) + 16 * (16 << 20)
    for container in (agent, runtime):
        resources = container["resources"]
        assert resources["limits"]["memory"] == resources["requests"]["memory"]


@pytest.mark.parametrize(
    ("preference", "combine", "told", "models"),
    [
        (["GPU", "CPU"], None, "GPU,CPU", 1),
        (["GPU", "CPU"], "Auto", "AUTO:GPU,CPU", 2),
        (["NPU", "GPU", "CPU"], "Multi", "MULTI:NPU,CPU", 2),
        (["GPU", "CPU"], "Hetero", "HETERO:GPU,CPU", 1),
    ],
)
def test_devices_that_serve_together_have_the_resource_and_the_memory_for_it(
    preference: list[str], combine: str | None, told: str, models: int
) -> None:
    device = {"preference": preference} | ({"combine": combine} if combine else {})
    made = model_object(compiledSize="1Gi", device=device)
    (runtime,) = pod_spec(build_children(context(made)))["containers"]
    limits = runtime["resources"]["limits"]
    assert {entry["name"]: entry["value"] for entry in runtime["env"]}["MODELSEAL_DEVICES"] == told
    assert any("intel.com" in name for name in limits)
    assert whole_bytes(limits["memory"]) >> 30 == models


@pytest.mark.parametrize(
    ("text", "canonical"), [("1024Mi", "1Gi"), ("1536Mi", "1536Mi"), ("1", "1"), ("0.5Gi", "512Mi")]
)
def test_bytes_are_written_as_the_api_server_writes_them(text: str, canonical: str) -> None:
    assert format_bytes(whole_bytes(text)) == canonical


@pytest.mark.parametrize(
    ("value", "canonical"), [("1000m", "1"), ("0.5", "500m"), (2, "2"), ("1.5", "1500m")]
)
def test_cpu_is_written_as_the_api_server_writes_it(value: object, canonical: str) -> None:
    assert format_cpu(value) == canonical


@given(st.integers(min_value=0, max_value=1 << 50))
def test_a_written_quantity_reads_as_the_same_bytes(count: int) -> None:
    assert whole_bytes(format_bytes(count)) == count


@pytest.mark.parametrize(
    "value", ["", "x", "1Xi", "-1", "1e999", None, True, 1.5, [], "1_0", "\u0661"]
)
def test_what_is_no_quantity_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity(value)
