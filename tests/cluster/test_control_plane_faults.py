"""An API server that throttles, fails, forgets and falls silent costs time and nothing else."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelseal.contract import ANNOTATION_WAVE
from support.api_proxy import ApiProxy, Asked, Instead, between
from support.audit import Audit
from support.control_plane import ControlPlane, wait_until
from support.operator_process import OperatorProcess, operating
from support.tenant import Tenant

Json = dict[str, Any]
pytestmark = pytest.mark.controlplane
RETRY_AFTER = 3
RESYNC = "10"
KEPT = ("name", "labels", "annotations", "ownerReferences")


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[ApiProxy]:
    with between(plane) as found:
        yield found


def once(wanted: Callable[[Asked], bool], answer: Instead, times: int = 1) -> Any:
    """Answer the first requests of a sort, and let everything else through."""
    left, guard = iter(range(times)), threading.Lock()

    def fault(asked: Asked) -> Instead | None:
        with guard:
            return answer if wanted(asked) and next(left, None) is not None else None

    return fault


def test_who_is_throttled_waits_as_long_as_told_and_keeps_nobody_else_waiting(
    plane: ControlPlane, proxy: ApiProxy, new_tenant: Callable[..., Tenant]
) -> None:
    slow, other = new_tenant(), new_tenant()

    def first_child(asked: Asked) -> bool:
        return asked.write and f"/namespaces/{slow.namespace}/configmaps" in asked.path

    headers = {"Retry-After": str(RETRY_AFTER)}
    proxy.fault = once(first_child, Instead(code=429, headers=headers))
    with operating(plane, proxy.address):
        for tenant in (slow, other):
            tenant.provider()
            tenant.model()
        other.serving()
        slow.serving()
    first, second = [each.at for each in proxy.asked if first_child(each)]
    assert second - first >= RETRY_AFTER
    begun = [each.at for each in proxy.asked if each.write and other.namespace in each.path]
    assert min(begun) < second


@pytest.mark.parametrize("code", [500, 503, 504])
def test_writes_that_fail_are_made_again(
    plane: ControlPlane, proxy: ApiProxy, tenant: Tenant, code: int
) -> None:
    proxy.fault = once(lambda asked: asked.write, Instead(code=code), times=4)
    tenant.provider()
    tenant.model()
    with operating(plane, proxy.address) as operator:
        tenant.serving()
        operator.settle()
        assert operator.metric("modelseal_operator_queue_depth") == 0


def test_a_child_that_is_another_object_by_now_is_looked_at_anew(
    plane: ControlPlane, proxy: ApiProxy, tenant: Tenant, audit: Audit
) -> None:
    tenant.provider()
    tenant.model()

    def recreate(asked: Asked) -> None:
        if asked.method == "PATCH" and "/deployments/filetype?" in asked.path:
            proxy.fault = lambda _: None
            raw = tenant.get(kind="Deployment")
            tenant.api.delete("Deployment", "filetype", tenant.namespace)
            kept = {k: v for k, v in raw["metadata"].items() if k in KEPT}
            tenant.create({"kind": "Deployment", **raw, "metadata": kept, "status": {}})

    with operating(plane, proxy.address):
        tenant.serving()
        proxy.fault = recreate
        tenant.patch({"replicas": 2})
        two_are_ready(tenant)
    codes = [each.code for each in audit.writes(tenant.namespace) if each.resource == "deployments"]
    assert 422 in codes
    assert "ApplyRefused" not in {event["reason"] for event in tenant.of("Event")}


def test_what_happens_while_watches_are_cut_is_seen_afterwards(
    plane: ControlPlane, proxy: ApiProxy, tenant: Tenant
) -> None:
    tenant.provider()
    tenant.model()
    with operating(plane, proxy.address):
        tenant.serving()
        cut(proxy)
        tenant.patch({"replicas": 2})
        tenant.model("second")
        tenant.serving("second")
        two_are_ready(tenant)


def test_versions_that_have_expired_are_listed_again_and_a_missed_deletion_is_found(
    plane: ControlPlane, proxy: ApiProxy, tenant: Tenant
) -> None:
    tenant.provider()
    tenant.model()
    with operating(plane, proxy.address):
        tenant.serving()
        gone = Instead(code=410, message="too old resource version")
        proxy.fault = lambda asked: gone if asked.watch else None
        cut(proxy)
        tenant.api.delete("Service", "filetype", tenant.namespace)
        tenant.patch({"replicas": 2})
        begun = len(watches(proxy))
        wait_until(lambda: len(watches(proxy)) > begun + 3, "it asks again")
        proxy.fault = lambda _: None
        two_are_ready(tenant)
        wait_until(lambda: tenant.find("Service"), "the service came back")


def test_a_watch_that_fell_silent_ends_the_process_and_the_next_one_catches_up(
    plane: ControlPlane, proxy: ApiProxy, tenant: Tenant
) -> None:
    tenant.provider()
    tenant.model()
    operator = OperatorProcess(plane, proxy.address, RESYNC_SECONDS=RESYNC)
    try:
        operator.wait_for_lead()
        tenant.serving()
        proxy.muted = True
        tenant.patch({"replicas": 2})
        assert operator.process.wait(timeout=240) == 1
    finally:
        if operator.alive:
            operator.kill()
    assert "is behind for over 60 s" in operator.text
    assert "Traceback" not in operator.text
    proxy.muted = False
    with operating(plane, proxy.address):
        two_are_ready(tenant)


def test_an_edited_provider_rolls_its_models_in_waves_and_stops_at_a_failure(
    plane: ControlPlane, tenant: Tenant
) -> None:
    names = [f"model-{number}" for number in range(5)]
    tenant.provider()
    with operating(plane, ROLLOUT_CONCURRENCY="2") as operator:
        for name in names:
            tenant.model(name)
        for name in names:
            tenant.serving(name)
        with cordoned(tenant):
            edit = {"spec": {"vault": {"namespace": "other"}}}
            tenant.api.patch("KeyProvider", "vault", edit, tenant.namespace)
            wait_until(lambda: "NoRoomForUpdate" in reasons(tenant, names), "a model has no room")
            operator.settle()
            # the first may have failed before the second has begun
            assert 1 <= len(rolled(tenant)) <= 2
            assert all(tenant.says(name, "Available")[0] == "True" for name in names)
        wait_until(lambda: len(rolled(tenant)) == len(names), "all have rolled", 180)
        for name in names:
            tenant.serving(name)


def cut(proxy: ApiProxy) -> None:
    """Cut the watches, and wait until they are taken up again."""
    begun = len(watches(proxy))
    proxy.cut_watches()
    wait_until(lambda: len(watches(proxy)) > begun, "the watches are taken up again")


def watches(proxy: ApiProxy) -> list[Asked]:
    return [each for each in proxy.asked if each.watch]


def two_are_ready(tenant: Tenant) -> None:
    wait_until(lambda: tenant.get()["status"].get("readyReplicas") == 2, "two pods are ready")


def reasons(tenant: Tenant, names: list[str]) -> set[str]:
    return {tenant.says(name)[1] for name in names}


def rolled(tenant: Tenant) -> list[Json]:
    """Return the Deployments whose template came with a wave."""
    found = tenant.of("Deployment")
    return [raw for raw in found if ANNOTATION_WAVE in raw["metadata"]["annotations"]]


@contextlib.contextmanager
def cordoned(tenant: Tenant) -> Iterator[None]:
    """Let no node take new pods."""
    schedule(tenant, unschedulable=True)
    try:
        yield
    finally:
        schedule(tenant, unschedulable=False)


def schedule(tenant: Tenant, *, unschedulable: bool) -> None:
    for raw in tenant.api.list("Node"):
        change = {"spec": {"unschedulable": unschedulable}}
        tenant.api.patch("Node", raw["metadata"]["name"], change)
