"""Uninstalling in any order leaves nothing stuck; the session's last test."""

import pytest

from modelseal.contract import GROUP
from support.kind_asking import answers_right
from support.kind_operator import NAMESPACE, uninstall
from support.kind_place import Place
from support.kube import Kube

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]
CRDS = ("clusterkeyproviders", "encryptedmodels", "keyproviders")
KINDS = (
    "clusterroles,clusterrolebindings,validatingadmissionpolicies,"
    "validatingadmissionpolicybindings,customresourcedefinitions"
)


def test_uninstalling_loses_no_model_and_leaves_nothing_stuck(place: Place) -> None:
    place.provide()
    place.put(place.seal(), "filetype/1")
    place.apply()
    place.until_ready()
    uninstall(place.kube)
    system = place.kube.at(NAMESPACE)
    system.until("its pods are gone", lambda: not system.all("pods"))
    assert names(system, "deployments,services,networkpolicies,poddisruptionbudgets") == set()
    assert left_in_the_cluster(place.kube) == {f"{each}.{GROUP}" for each in CRDS}
    assert answers_right(place)
    place.kube.run("delete", "namespace", place.namespace, "--timeout=120s")
    place.kube.run("delete", "crd", *(f"{each}.{GROUP}" for each in CRDS), "--timeout=60s")
    assert left_in_the_cluster(place.kube) == set()


def left_in_the_cluster(kube: Kube) -> set[str]:
    """Return the names of what is ours outside of any namespace."""
    return {name for name in names(kube, KINDS) if "modelseal" in name}


def names(kube: Kube, kinds: str) -> set[str]:
    return {each["metadata"]["name"] for each in kube.all(kinds)}
