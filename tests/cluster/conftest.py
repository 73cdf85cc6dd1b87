"""One control plane for the session, an operator for each module, a namespace for each test."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import kind_ahead
from support.audit import Audit
from support.binaries import missing
from support.control_plane import ControlPlane, running, wait_until
from support.installation import objects
from support.kube_api import KubeApi
from support.operator_process import OperatorProcess, operating
from support.requirements import unavailable
from support.tenant import Tenant


@pytest.fixture(scope="session")
def real_cluster_ahead(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the real cluster be made meanwhile, if its tests come next."""
    wanted = any(item.get_closest_marker("kind") for item in request.session.items)
    with kind_ahead.begun() if wanted else contextlib.nullcontext():
        yield


@pytest.fixture(scope="session")
def bare_plane(
    real_cluster_ahead: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """Start a control plane without nodes."""
    lacking = missing()
    if lacking:
        unavailable(lacking)
    with running(tmp_path_factory.mktemp("plane")) as plane:
        yield plane


@pytest.fixture(scope="session")
def api(bare_plane: ControlPlane) -> Iterator[KubeApi]:
    """Return the admin's hand on the API server."""
    found = bare_plane.api()
    yield found
    found.close()


@pytest.fixture(scope="session")
def plane(bare_plane: ControlPlane, api: KubeApi) -> ControlPlane:
    """Return the control plane with two nodes, and what the chart installs."""
    api.create(node("plain"))
    api.create(node("devices", **{"gpu.intel.com/xe": "8", "npu.intel.com/accel": "8"}))
    for raw in objects():
        api.apply(raw, "installer")
    wait_until(lambda: served(api), "the CRDs are served")
    return bare_plane


def node(name: str, **resources: str) -> dict[str, Any]:
    """Return a node that KWOK plays."""
    allocatable = {"cpu": "100", "memory": "1Ti", "pods": "1000", **resources}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/arch": "amd64"}},
        "status": {"allocatable": allocatable, "capacity": allocatable},
    }


def served(api: KubeApi) -> bool:
    """Tell whether the API server knows our kinds."""
    names = [raw["metadata"]["name"] for raw in api.list("CustomResourceDefinition")]
    return len(names) == 3 and all(
        any(
            c["type"] == "Established" and c["status"] == "True"
            for c in raw["status"].get("conditions") or ()  # null until they are judged
        )
        for raw in api.list("CustomResourceDefinition")
    )


@pytest.fixture(scope="module")
def operator(plane: ControlPlane) -> Iterator[OperatorProcess]:
    """Run an operator for a module's tests; it must live through all of them."""
    with operating(plane) as found:
        yield found


@pytest.fixture
def new_tenant(plane: ControlPlane, api: KubeApi) -> Iterator[Callable[..., Tenant]]:
    """Return what makes namespaces; they are deleted after the test."""
    made: list[Tenant] = []

    def make(namespace: str | None = None) -> Tenant:
        made.append(Tenant(api, namespace))
        return made[-1]

    yield make
    for each in made:
        each.remove()


@pytest.fixture
def tenant(new_tenant: Callable[..., Tenant]) -> Tenant:
    """Return a namespace of the test's own."""
    return new_tenant()


@pytest.fixture
def audit(plane: ControlPlane) -> Audit:
    """Return the audit log from now on."""
    return Audit(plane.audit_log)


@pytest.fixture
def plane_audit(plane: ControlPlane) -> Callable[[], Audit]:
    """Return what opens the audit log from the moment of the call on."""
    return lambda: Audit(plane.audit_log)
