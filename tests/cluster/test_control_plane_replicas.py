"""Replicas that end, start and lose the API server: one acts at a time, nothing is left stuck."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from support.audit import Audit
from support.control_plane import ControlPlane, wait_until
from support.operator_process import OperatorProcess, operating
from support.tenant import Tenant

pytestmark = pytest.mark.controlplane
LEASE_SECONDS = 10


@contextlib.contextmanager
def replica(plane: ControlPlane) -> Iterator[OperatorProcess]:
    """Run a replica that a test may end; nothing of it is left afterwards."""
    found = OperatorProcess(plane, LEASE_SECONDS=str(LEASE_SECONDS))
    try:
        yield found
    finally:
        if found.alive:
            found.stop()


def test_when_the_leader_is_killed_the_standby_takes_over_and_they_never_write_both(
    plane: ControlPlane, tenant: Tenant, audit: Audit
) -> None:
    tenant.provider()
    with replica(plane) as first:
        first.wait_for_lead()
        with replica(plane) as second:
            for number in range(5):
                tenant.model(f"model-{number}")
            wait_until(lambda: "listening" in second.text, "the standby has started")
            first.kill()
            tenant.model("later")
            second.wait_for_lead(LEASE_SECONDS + 10)
            for number in range(5):
                tenant.serving(f"model-{number}")
            tenant.serving("later")
            second.settle()
    writes = audit.writes()
    times = {
        credential: [each.time for each in writes if each.credential == credential]
        for credential in (first.credential, second.credential)
    }
    assert len(times[first.credential]) + len(times[second.credential]) == len(writes)
    assert times[second.credential]
    last = max(times[first.credential], default="")
    assert last < min(times[second.credential])


def test_a_replica_that_is_told_to_end_hands_over_at_once(
    plane: ControlPlane, tenant: Tenant
) -> None:
    with replica(plane) as first:
        first.wait_for_lead()
        with replica(plane) as second:
            wait_until(lambda: "listening" in second.text, "the standby has started")
            assert first.stop() == 0
            second.wait_for_lead(LEASE_SECONDS / 2)
            tenant.provider()
            tenant.model()
            tenant.serving()


def test_a_restart_writes_nothing_but_the_lease(
    plane: ControlPlane, tenant: Tenant, plane_audit: Callable[[], Audit]
) -> None:
    tenant.provider()
    with operating(plane) as before:
        for number in range(3):
            tenant.model(f"model-{number}")
        for number in range(3):
            tenant.serving(f"model-{number}")
        before.settle()
    audit = plane_audit()
    with operating(plane) as after:
        wait_until(
            lambda: after.metric("modelseal_operator_reconciles_total") >= 3, "all are looked at"
        )
        after.settle()
        # models of other tests may still be going away with their namespaces
        assert [each for each in audit.writes() if each.namespace == tenant.namespace] == []
        leases = [each for each in audit.requests() if each.write and each.resource == "leases"]
        assert leases


def test_an_api_server_that_dies_and_comes_back_is_caught_up_with(
    plane: ControlPlane, tenant: Tenant
) -> None:
    tenant.provider()
    tenant.model()
    with operating(plane, LEASE_SECONDS="60") as operator:
        tenant.serving()
        plane.stop_api_server(kill=True)
        plane.recover()
        tenant.api.delete("Service", "filetype", tenant.namespace)
        tenant.model("later")
        wait_until(lambda: tenant.find("Service"), "the service came back")
        wait_until(lambda: tenant.says("later") == ("True", "Serving"), "it is served")
        assert operator.alive


def test_a_leader_that_loses_the_api_server_for_longer_than_its_lease_ends(
    plane: ControlPlane, tenant: Tenant
) -> None:
    tenant.provider()
    tenant.model()
    with replica(plane) as operator:
        operator.wait_for_lead()
        tenant.serving()
        plane.stop_api_server(kill=True)
        try:
            code = operator.process.wait(timeout=LEASE_SECONDS + 60)
        finally:
            plane.recover()
        assert code == 1
        assert "Traceback" not in operator.text


def test_a_namespace_can_be_deleted_while_no_operator_runs(
    plane: ControlPlane, tenant: Tenant
) -> None:
    tenant.provider()
    # or the namespace's controller waits for half of the default grace period
    tenant.model(rollout={"drainSeconds": 1, "terminationGracePeriodSeconds": 5})
    with operating(plane):
        tenant.serving()
    tenant.api.delete("Namespace", tenant.namespace)
    wait_until(lambda: tenant.api.find("Namespace", tenant.namespace) is None, "it is gone")
