"""The chart: what helm makes of it, what it refuses, and what the operator's account may do."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelseal import contract
from modelseal_operator.settings import Settings, settings_from_env
from support.binaries import CannotBuild, binary
from support.operator_objects import ROOT
from support.requirements import unavailable

CHART = ROOT / "charts" / "modelseal"
NAMESPACE = "modelseal-system"
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
Json = dict[str, Any]
Template = Callable[..., list[Json]]


@pytest.fixture(scope="module", params=["helm", "helm3"])
def helm(request: pytest.FixtureRequest) -> Path:
    try:
        return binary(request.param)
    except CannotBuild as error:
        unavailable(str(error))


def run(helm: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm, *words], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def template(helm: Path) -> Template:
    """Return a function that renders the chart with values."""

    def render(*settings: str) -> list[Json]:
        options = [word for setting in settings for word in ("--set-json", setting)]
        place = ("--namespace", NAMESPACE, "--kube-version", "1.31.0")
        done = run(helm, "template", "modelseal", str(CHART), *place, *options)
        assert done.returncode == 0, done.stderr
        return [each for each in yaml.safe_load_all(done.stdout) if each]

    return render


def of_kind(objects: list[Json], kind: str) -> list[Json]:
    return [each for each in objects if each["kind"] == kind]


def rules(objects: list[Json]) -> list[tuple[str, str, str]]:
    """Return each right that the operator's account is given, as group, resource and verb."""
    bindings = of_kind(objects, "ClusterRoleBinding") + of_kind(objects, "RoleBinding")
    bound = {(b["roleRef"]["kind"], b["roleRef"]["name"]) for b in bindings}
    roles = [role for role in objects if (role["kind"], role["metadata"]["name"]) in bound]
    return [
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def operator_settings(objects: list[Json]) -> Settings:
    """Read the Deployment's environment as the operator does, which refuses unknown names."""
    (deployment,) = of_kind(objects, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    fields = {"metadata.name": "pod-1", "metadata.namespace": NAMESPACE}
    return settings_from_env(
        {
            e["name"]: e.get("value") or fields[e["valueFrom"]["fieldRef"]["fieldPath"]]
            for e in container["env"]
        }
    )


def test_helm_finds_nothing_to_complain_about(helm: Path) -> None:
    done = run(helm, "lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


def test_the_chart_has_the_projects_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["version"] == chart["appVersion"] == contract.VERSION


def test_the_charts_crds_are_those_of_the_project() -> None:
    copies = {path.name: path.read_bytes() for path in (CHART / "files" / "crds").iterdir()}
    assert copies == {path.name: path.read_bytes() for path in (ROOT / "crds").glob("*.yaml")}


def test_crds_are_kept_on_uninstall_unless_told_otherwise(template: Template) -> None:
    keep = {"helm.sh/resource-policy": "keep"}
    kept = of_kind(template(), "CustomResourceDefinition")
    assert [crd["metadata"]["annotations"] for crd in kept] == [keep] * 3
    dropped = of_kind(template("crds.keep=false"), "CustomResourceDefinition")
    assert [crd["metadata"]["annotations"] for crd in dropped] == [{}] * 3
    assert of_kind(template("crds.enabled=false"), "CustomResourceDefinition") == []


def test_rendering_a_crd_changes_nothing_but_its_labels_and_annotations(
    template: Template,
) -> None:
    for crd in of_kind(template(), "CustomResourceDefinition"):
        name = crd["metadata"]["name"].partition(".")[0]
        path = ROOT / "crds" / f"modelseal.dev_{name}.yaml"
        assert crd["spec"] == yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]


def test_the_operator_understands_every_variable_that_the_chart_sets(template: Template) -> None:
    settings = operator_settings(template())
    assert settings.identity == "pod-1"
    assert settings.namespace == settings.pods.operator_namespace == NAMESPACE
    assert settings.lease_name == "modelseal"
    assert settings.pods.agent_image.endswith(f"/modelseal-agent:{contract.VERSION}")
    assert settings.namespaces == ()


def test_values_reach_the_operator(template: Template) -> None:
    settings = operator_settings(
        template(
            'imageRegistry="registry.example.org:5000"',
            'models.pullSecrets=["one","two"]',
            f'models.agent.image.digest="sha256:{"0" * 64}"',
            "devices.enabled=true",
            "devices.groups=[44,4294967294]",
            'watchNamespaces=["vision","speech"]',
            'metrics.scraperNamespaceLabels={"kubernetes.io/metadata.name":"monitoring"}',
            "operator.rolloutConcurrency=7",
        )
    )
    pods = settings.pods
    registry = "registry.example.org:5000/modelseal"
    assert pods.agent_image == f"{registry}/modelseal-agent@sha256:{'0' * 64}"
    assert pods.runtime_image == f"{registry}/modelseal-runtime:{contract.VERSION}"
    assert pods.pull_secrets == ("one", "two")
    assert pods.device_groups == (44, 4294967294)
    assert pods.scraper_labels == (("kubernetes.io/metadata.name", "monitoring"),)
    assert (settings.devices, settings.concurrency) == (True, 7)
    assert settings.namespaces == ("vision", "speech")


def test_the_network_policies_of_models_select_the_operators_pods(template: Template) -> None:
    objects = template()
    (deployment,) = of_kind(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert dict(operator_settings(objects).pods.operator_labels).items() <= labels.items()


@pytest.mark.parametrize(
    "setting",
    [
        "unknown=1",
        "operator.replica=2",
        "operator.replicas=0",
        'operator.image.digest="latest"',
        'watchNamespaces=["*"]',
        "models.env=[]",
    ],
)
def test_unknown_and_wrong_values_are_refused(helm: Path, setting: str) -> None:
    done = run(helm, "template", "x", str(CHART), "--kube-version=1.31.0", "--set-json", setting)
    assert done.returncode != 0
    assert re.search(setting.partition("=")[0].split(".")[-1], done.stderr)


FORBIDDEN = {
    "secrets",
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "serviceaccounts",
    "serviceaccounts/token",
    "roles",
    "clusterroles",
    "*",
}


@pytest.mark.parametrize("settings", [(), ("devices.enabled=true",), ('watchNamespaces=["a"]',)])
def test_the_operator_has_no_right_that_leads_to_a_secret(
    template: Template, settings: tuple[str, ...]
) -> None:
    given = rules(template(*settings))
    assert len(given) > 20
    assert {resource for _, resource, _ in given} & FORBIDDEN == set()
    verbs = {verb for _, _, verb in given}
    assert verbs == {"get", "list", "watch", "create", "patch", "update", "delete"}
    writes = {(r, v) for _, r, v in given if v not in ("get", "list", "watch")}
    assert {("pods", verb) for verb in verbs} & writes == set()


def test_nodes_are_read_only_where_devices_are_enabled(template: Template) -> None:
    assert "nodes" not in {resource for _, resource, _ in rules(template())}
    nodes = [right for right in rules(template("devices.enabled=true")) if right[1] == "nodes"]
    assert {verb for _, _, verb in nodes} == {"get", "list", "watch"}


def test_with_namespaces_to_watch_there_are_roles_only(template: Template) -> None:
    objects = template('watchNamespaces=["vision","speech"]', "rbac.aggregate=false")
    assert of_kind(objects, "ClusterRole") == of_kind(objects, "ClusterRoleBinding") == []
    roles = {role["metadata"]["namespace"] for role in of_kind(objects, "Role")}
    assert roles == {"vision", "speech", NAMESPACE}


def test_the_lease_can_be_written_by_name_only(template: Template) -> None:
    (role,) = [r for r in of_kind(template(), "Role") if r["metadata"]["name"].endswith("-leader")]
    named = [rule for rule in role["rules"] if "update" in rule["verbs"]]
    assert [rule["resourceNames"] for rule in named] == [["modelseal"]]


def test_editors_of_a_namespace_may_not_say_whom_to_trust(template: Template) -> None:
    label = "rbac.authorization.k8s.io/aggregate-to-edit"
    given = [r for r in of_kind(template(), "ClusterRole") if label in r["metadata"]["labels"]]
    writes = {"create", "update", "patch", "delete"}
    written = {
        resource
        for role in given
        for rule in role["rules"]
        if writes & set(rule["verbs"])
        for resource in rule["resources"]
    }
    assert written == {"encryptedmodels", "encryptedmodels/scale"}


def test_every_pod_of_the_chart_meets_the_restricted_standard(template: Template) -> None:
    objects = template()
    pods = [d["spec"]["template"]["spec"] for d in of_kind(objects, "Deployment")]
    pods += [pod["spec"] for pod in of_kind(objects, "Pod")]
    assert len(pods) == 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_openshift_may_choose_the_users(template: Template) -> None:
    (deployment,) = of_kind(template("operator.fixedUser=false"), "Deployment")
    assert "runAsUser" not in deployment["spec"]["template"]["spec"]["securityContext"]


def test_monitoring_is_made_where_it_is_wanted(template: Template) -> None:
    objects = template(
        "metrics.serviceMonitor.enabled=true",
        "metrics.podMonitor.enabled=true",
        "metrics.alerts.enabled=true",
        "metrics.dashboard.enabled=true",
    )
    assert of_kind(objects, "ServiceMonitor")
    assert of_kind(objects, "PodMonitor")
    dashboard = next(c for c in of_kind(objects, "ConfigMap"))
    assert json.loads(dashboard["data"]["modelseal.json"])["title"] == "modelseal"
    (alerts,) = of_kind(objects, "PrometheusRule")
    page = (ROOT / "docs" / "crd.md").read_text(encoding="utf-8")
    notes = [rule["annotations"] for rule in alerts["spec"]["groups"][0]["rules"]]
    anchors = [note["runbook_url"].partition("#")[2] for note in notes if "runbook_url" in note]
    assert len(anchors) > 10
    assert {anchor for anchor in anchors if f'<a id="{anchor}"></a>' not in page} == set()


SERIES = re.compile(r"modelseal_[a-z_]+")
LABELS = {"modelseal_dev_model"}


def test_alerts_and_dashboard_ask_for_metrics_that_exist() -> None:
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for part in ("operator", "runtime")
        for path in (ROOT / part / "src").rglob("metrics.py")
    )
    words = set(re.findall(r'["}]([a-z_]+)"', code))
    asked = set(SERIES.findall((CHART / "templates" / "alerts.yaml").read_text(encoding="utf-8")))
    asked |= set(SERIES.findall((CHART / "files" / "dashboard.json").read_text(encoding="utf-8")))
    prefixes = ("modelseal_operator_", "modelseal_inference_", "modelseal_")
    unknown = []
    for name in asked - LABELS:
        stem = name.removesuffix("_total")
        bare = next(stem.removeprefix(p) for p in prefixes if stem.startswith(p))
        if bare not in words:
            unknown.append(name)
    assert unknown == []


@pytest.mark.parametrize("helm", ["helm"], indirect=True)
def test_the_notes_warn_where_a_guard_is_off(helm: Path) -> None:
    options = ["--set-json", "admissionPolicies.enabled=false", "--set-json", "crds.keep=false"]
    client = ["--dry-run=client"]
    done = run(helm, "install", "m", str(CHART), "--namespace", NAMESPACE, *client, *options)
    assert done.returncode == 0, done.stderr
    assert "every\nservice account of the namespace" in done.stdout
    assert "deletes every EncryptedModel" in done.stdout
