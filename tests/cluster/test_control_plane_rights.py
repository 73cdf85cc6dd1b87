"""The operator's rights are those that it uses: none is missing, and none is there for nothing."""

import copy
from collections.abc import Iterable
from typing import Any

import pytest

from modelseal_operator.kinds import KINDS
from support import installation
from support.audit import Audit, Request
from support.control_plane import ControlPlane, wait_until
from support.operator_objects import merged
from support.operator_process import operating
from support.tenant import Tenant, example

Json = dict[str, Any]
pytestmark = pytest.mark.controlplane
ONLY_OF_A_WATCH_THAT_LAGS = frozenset(
    {
        ("modelseal.dev", "encryptedmodels", "get"),
        ("modelseal.dev", "keyproviders", "get"),
        ("modelseal.dev", "clusterkeyproviders", "get"),
        ("apps", "replicasets", "get"),
        ("", "pods", "get"),
        ("", "nodes", "get"),
    }
)
"""The list check asks for single objects that a watch has not shown after two seconds."""


def test_no_request_is_forbidden_and_no_right_is_unused(
    plane: ControlPlane, tenant: Tenant, audit: Audit
) -> None:
    tenant.api.delete("Lease", installation.RELEASE, installation.NAMESPACE)
    with operating(plane) as operator:
        tenant.provider()
        tenant.model(replicas=2)
        tenant.serving()
        _edit_everything(tenant)
        _meet_strangers(tenant)
        _withdraw(tenant)
        operator.settle()
    granted = installation.rights()
    # a watch is logged when the API server has noticed its end
    wait_until(
        lambda: granted - used(audit.requests()) <= ONLY_OF_A_WATCH_THAT_LAGS, "all rights are used"
    )
    requests = audit.requests()
    assert [each for each in requests if each.forbidden] == []
    assert not [each for each in requests if each.code in (400, 401, 422)]
    assert used(requests) <= granted


def used(requests: Iterable[Request]) -> set[tuple[str, str, str]]:
    """Return the rights that were used, as `installation.rights` names them."""
    return {(each.group, each.resource, each.verb) for each in requests}


def _edit_everything(tenant: Tenant) -> None:
    """Change what leads to an apply of every kind of child, and to the end of some."""
    tenant.patch({"allowFrom": [{"cidr": "203.0.113.0/24"}], "replicas": 3})
    for kind in ("Service", "PodDisruptionBudget"):
        labels = {"metadata": {"labels": {"app.kubernetes.io/instance": "edited"}}}
        tenant.api.patch(kind, "filetype", labels, tenant.namespace)
    tenant.api.patch(
        "ConfigMap", "filetype-provider", {"data": {"max-stale": "5"}}, tenant.namespace
    )
    wait_until(
        lambda: tenant.get("filetype-provider", "ConfigMap")["data"]["max-stale"] != "5",
        "the ConfigMap is as it was",
    )
    tenant.serving()
    tenant.patch({"replicas": 1, "networkPolicy": "Unmanaged"})
    wait_until(lambda: tenant.find("NetworkPolicy") is None, "the policy is gone")
    wait_until(lambda: tenant.find("PodDisruptionBudget") is None, "the budget is gone")


def _meet_strangers(tenant: Tenant) -> None:
    """Let there be a stranger's object for every kind of child."""
    for kind in ("ConfigMap", "NetworkPolicy", "Service", "PodDisruptionBudget", "Deployment"):
        name = f"taken-{kind.lower()}"
        tenant.create(_stranger(kind, f"{name}-provider" if kind == "ConfigMap" else name))
        tenant.model(name, replicas=2)
        assert kind in tenant.wait("NameConflict", name)["message"]


def _stranger(kind: str, name: str) -> Json:
    labels = {"app": "other"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    specs: dict[str, Json] = {
        "ConfigMap": {},
        "NetworkPolicy": {"spec": {"podSelector": {"matchLabels": labels}}},
        "Service": {"spec": {"ports": [{"port": 80}]}},
        "PodDisruptionBudget": {"spec": {"selector": {"matchLabels": labels}}},
        "Deployment": {
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod}
        },
    }
    return {
        "apiVersion": KINDS[kind].api_version,
        "kind": kind,
        "metadata": {"name": name},
        **specs[kind],
    }


def _withdraw(tenant: Tenant) -> None:
    """Take the right away, so that every child is deleted."""
    grant = {"namespace": tenant.namespace, "models": ["vision/*"]}
    company = merged(example("clusterkeyprovider"), {"spec": {"allowedNamespaces": [grant]}})
    tenant.api.create(copy.deepcopy(company))
    try:
        reference = {"kind": "ClusterKeyProvider", "name": "company"}
        tenant.model("borrowed", keyProviderRef=reference, replicas=2)
        tenant.serving("borrowed")
        gone: Json = {"spec": {"allowedNamespaces": []}}
        tenant.api.patch("ClusterKeyProvider", "company", gone)
        tenant.wait("NamespaceNotAllowed", "borrowed")
        wait_until(lambda: tenant.find("Deployment", "borrowed") is None, "the children are gone")
    finally:
        tenant.api.delete("ClusterKeyProvider", "company")
