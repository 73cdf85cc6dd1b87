"""With namespaces to watch the operator has Roles, nothing of the cluster's, and needs no more."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import installation
from support.audit import Audit
from support.control_plane import ControlPlane, wait_until
from support.kube_api import KubeApi
from support.operator_process import operating
from support.tenant import Tenant

Json = dict[str, Any]
pytestmark = pytest.mark.controlplane
RIGHTS = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


def test_with_roles_alone_it_serves_its_namespaces_and_asks_for_no_others(
    plane: ControlPlane, new_tenant: Callable[..., Tenant], audit: Audit
) -> None:
    watched, other = new_tenant(), new_tenant()
    values = ("devices.enabled=false", f"watchNamespaces={{{watched.namespace}}}")
    for tenant in (watched, other):
        tenant.provider()
        tenant.model()
    with (
        these_rights_alone(watched.api, *values),
        operating(plane, **installation.settings(*values)) as operator,
    ):
        watched.serving()
        watched.patch({"replicas": 2})
        watched.api.delete("Service", "filetype", watched.namespace)
        wait_until(lambda: watched.find("Service"), "the service came back")
        operator.settle()
    requests = [
        each for each in audit.requests() if each.user.endswith(f":{installation.account()}")
    ]
    assert [each for each in requests if each.forbidden] == []
    asked = {each.namespace for each in requests if each.group != "apiextensions.k8s.io"}
    assert asked == {watched.namespace, installation.NAMESPACE}
    assert other.get()["status"] == {"observedGeneration": -1}


@contextlib.contextmanager
def these_rights_alone(api: KubeApi, *values: str) -> Iterator[None]:
    """Give the operator the rights that other values of the chart give, and later its own again."""
    usual, wanted = (rights_of(installation.objects(*each)) for each in ((), values))
    replace(api, usual, wanted)
    try:
        yield
    finally:
        replace(api, wanted, usual)


def rights_of(objects: list[Json]) -> list[Json]:
    return [raw for raw in objects if raw["kind"] in RIGHTS]


def replace(api: KubeApi, old: list[Json], new: list[Json]) -> None:
    for raw in old:
        metadata = raw["metadata"]
        api.delete(raw["kind"], metadata["name"], metadata.get("namespace"))
    for raw in new:
        api.apply(raw, "installer")
