"""A cluster that somebody lends to the tests of the real cluster keeps what it had, all of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from support import kind_given
from support.binaries import binary, missing
from support.control_plane import running
from support.kind_given import KUBECONFIG, MARK, REGISTRY, RESTRICTED, REVIEWER
from support.kind_operator import CHART, NAMESPACE, RELEASE, helm
from support.kube import Kube
from support.requirements import unavailable

Json = dict[str, Any]
pytestmark = pytest.mark.controlplane
KINDS = "namespaces,clusterroles,clusterrolebindings,crds,validatingadmissionpolicies"


@pytest.fixture(scope="module")
def lent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kube]:
    """Start a control plane of its own: what is tested here deletes."""
    if lacking := missing():
        unavailable(lacking)
    with running(tmp_path_factory.mktemp("lent")) as plane:
        kubeconfig = plane.kubeconfig("lender", plane.tokens["admin"])
        yield Kube(program=str(binary("kubectl")), kubeconfig=kubeconfig)


def named(kind: str, name: str, **more: Any) -> Json:
    version = "rbac.authorization.k8s.io/v1" if kind.startswith("Cluster") else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **more}}


def binding(name: str, **more: Any) -> Json:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    return {**named("ClusterRoleBinding", name, **more), "roleRef": role}


def everything(kube: Kube) -> set[tuple[str, str, str]]:
    """Return what there is beside namespaces, by kind, name and uid."""
    places = ((each["kind"], each["metadata"]) for each in kube.all(KINDS))
    return {(kind, meta["name"], meta["uid"]) for kind, meta in places}


def test_what_the_tests_made_is_removed_and_nothing_else(lent: Kube) -> None:
    lent.apply(named("Namespace", "a-team"), binding("modelseal-of-a-team"))
    before = everything(lent)
    assert kind_given.occupied(lent) is None
    for name in (NAMESPACE, "t1-abcd"):
        lent.apply(named("Namespace", name, labels=RESTRICTED))
    lent.apply(binding(REVIEWER, labels=MARK))
    helm(lent, "install", RELEASE, str(CHART))
    assert len(everything(lent)) > len(before) + 8
    assert kind_given.occupied(lent) is None, "what an earlier run left is no obstacle"
    kind_given.clear(lent)
    assert everything(lent) == before


def test_a_cluster_that_has_modelseal_is_refused_and_keeps_its_models(lent: Kube) -> None:
    crds = ("-f", str(CHART / "files" / "crds"))
    lent.run("apply", *crds)
    try:  # CRDs that had only just been made once took two minutes to be deleted
        lent.run("wait", *crds, "--for=condition=Established", "--timeout=110s")
        assert "would delete its models" in str(kind_given.occupied(lent))
    finally:
        kind_given.clear(lent)


@pytest.mark.parametrize(
    "theirs", [named("Namespace", "openbao"), binding(REVIEWER)], ids=["namespace", "binding"]
)
def test_a_cluster_where_a_name_is_taken_is_refused_in_one_sentence(
    lent: Kube, theirs: Json
) -> None:
    lent.apply(theirs)
    try:
        said = str(kind_given.occupied(lent))
    finally:  # as ours it is no obstacle to the next test, which nobody has to wait for
        marked = [f"{key}={value}" for key, value in MARK.items()]
        lent.run("label", theirs["kind"], theirs["metadata"]["name"], *marked)
    assert theirs["metadata"]["name"] in said
    assert "\n" not in said


def test_what_a_kubeconfig_lacks_is_said_in_one_line(
    lent: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(REGISTRY, raising=False)
    assert REGISTRY in str(kind_given.missing(lent))
    monkeypatch.setenv(REGISTRY, "registry.example.org/me")
    assert kind_given.missing(lent) is None
    nowhere = Kube(program=lent.program, kubeconfig=lent.kubeconfig.with_name("no-such-file"))
    assert KUBECONFIG in str(kind_given.missing(nowhere))
