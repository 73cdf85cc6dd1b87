"""The operator's loop, watches and all, against an API server in memory that has faults."""

import asyncio
import contextlib
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from modelseal.contract import ANNOTATION_WAVE, LABEL_TEMPLATE, Reason, Stage
from modelseal_operator.cluster import Cluster, Election, connect
from modelseal_operator.cluster.client import Bucket
from modelseal_operator.plan import make_plan
from support.fake_api import FakeApi, status
from support.operator_run import (
    Replica,
    fresh_model,
    fresh_provider,
    kubeconfig,
    reason,
    running,
    until,
)

CHILDREN = ("ConfigMap", "NetworkPolicy", "Service", "Deployment")


def play(folder: Path, scenario: Callable[[FakeApi, Path], Awaitable[None]]) -> None:
    async def main() -> None:
        api = FakeApi()
        await api.start()
        try:
            await asyncio.wait_for(scenario(api, folder), 60)
        finally:
            await api.stop()

    asyncio.run(main())


async def settled(api: FakeApi, replica: Replica) -> None:
    """Wait until the operator has written a status and wants nothing more."""
    await until(lambda: reason(api)[0], "the model has a status")
    await quiet(api, replica)


async def quiet(api: FakeApi, replica: Replica, rounds: int = 15) -> None:
    """Wait until nothing was due and nothing was written for a while."""
    calm, before = 0, len(api.writes)
    while calm < rounds:
        await asyncio.sleep(0.03)
        same = replica.operator.idle and len(api.writes) == before
        calm, before = (calm + 1 if same else 0), len(api.writes)


async def deliver(
    api: FakeApi, name: str = "filetype", *, ready: bool = True, ip: str = ""
) -> None:
    """Do what the controllers would do for a Deployment: a ReplicaSet, a pod, a status."""
    live = api.get("Deployment", name)
    assert live is not None
    labels = live["spec"]["template"]["metadata"]["labels"]
    template = labels[LABEL_TEMPLATE]
    replica_set = await api.put("ReplicaSet", owned(f"{name}-{template[:5]}", labels, live))
    pod = owned(f"{name}-{template[:5]}-x", labels, replica_set)
    state = {"type": "Ready", "status": str(ready)}
    pod["status"] = {"phase": "Running", "conditions": [state], "podIP": "10.0.0.1"}
    await api.put("Pod", pod)
    live["status"] = {
        "observedGeneration": live["metadata"]["generation"],
        "updatedReplicas": 1,
        "availableReplicas": int(ready),
    }
    await api.put("Deployment", live)


def owned(name: str, labels: dict[str, str], owner: dict[str, Any]) -> dict[str, Any]:
    reference = {"uid": owner["metadata"]["uid"], "controller": True, "name": "x", "kind": "y"}
    metadata = {"name": name, "namespace": "vision", "labels": labels}
    return {"metadata": {**metadata, "ownerReferences": [reference]}}


def test_from_a_resource_to_ready_and_then_not_one_write(tmp_path: Path) -> None:
    async def scenario(api: FakeApi, folder: Path) -> None:
        async with running(api, folder) as replica:
            await api.put("KeyProvider", fresh_provider())
            await api.put("EncryptedModel", fresh_model())
            await settled(api, replica)
            assert {kind for kind in CHILDREN if api.of(kind)} == set(CHILDREN)
            await deliver(api)
            await until(lambda: reason(api) == ("True", "Serving"), "the model is ready")
            await quiet(api, replica)
            writes = len(api.writes)
            await replica.resync()
            await quiet(api, replica)
            assert len(api.writes) == writes
            assert {e["reason"] for e in api.of("Event")} == {"Serving"}

    play(tmp_path, scenario)


def test_it_runs_as_a_uid_that_has_no_name_as_in_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr("getpass.getuser", nobody)

    async def scenario(api: FakeApi, folder: Path) -> None:
        async with running(api, folder) as replica:
            await until(lambda: replica.operator.leads, "it leads")

    play(tmp_path, scenario)


def test_a_deleted_or_edited_child_comes_back_and_foreign_fields_stay(tmp_path: Path) -> None:
    async def scenario(api: FakeApi, folder: Path) -> None:
        await api.put("KeyProvider", fresh_provider())
        await api.put("EncryptedModel", fresh_model())
        async with running(api, folder) as replica:
            await settled(api, replica)
            for kind in CHILDREN:
                (name, *_) = (c["metadata"]["name"] for c in api.of(kind))
                before = api.get(kind, name)
                await api.remove(kind, name)
                await until(partial(api.get, kind, name), f"{kind} is there again")
                edited = api.get(kind, name)
                assert edited is not None
                edited["metadata"]["labels"]["app.kubernetes.io/name"] = "edited"
                edited["metadata"]["labels"]["foreign"] = "stays"
                await api.put(kind, edited)
                await until(partial(intact, api, kind, name), f"{kind} is as it should be")
                assert label(api, kind, name, "foreign") == "stays"
                assert before is not None

    play(tmp_path, scenario)


def intact(api: FakeApi, kind: str, name: str) -> bool:
    return label(api, kind, name, "app.kubernetes.io/name") == "modelseal"


def label(api: FakeApi, kind: str, name: str, key: str) -> str:
    return str((api.get(kind, name) or {"metadata": {"labels": {}}})["metadata"]["labels"].get(key))


def test_a_strangers_object_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    stranger = {"metadata": {"name": "filetype", "namespace": "vision"}, "spec": {"selector": {}}}

    async def scenario(api: FakeApi, folder: Path) -> None:
        before = copy.deepcopy(await api.put("Service", copy.deepcopy(stranger)))
        await api.put("KeyProvider", fresh_provider())
        await api.put("EncryptedModel", fresh_model())
        async with running(api, folder) as replica:
            await settled(api, replica)
            assert reason(api) == ("False", "NameConflict")
            assert api.get("Service", "filetype") == before
            assert api.get("Deployment", "filetype") is not None

    play(tmp_path, scenario)


def test_a_forbidden_namespace_loses_its_children_and_a_lost_provider_does_not(
    tmp_path: Path,
) -> None:
    async def scenario(api: FakeApi, folder: Path) -> None:
        await api.put("KeyProvider", fresh_provider())
        await api.put("EncryptedModel", fresh_model())
        async with running(api, folder) as replica:
            await settled(api, replica)
            await api.remove("KeyProvider", "vault")
            await until(lambda: reason(api)[1] == "ProviderNotFound", "the provider is missed")
            await quiet(api, replica)
            assert api.get("Deployment", "filetype") is not None
            cluster = fresh_provider() | {"metadata": {"name": "vault"}}
            await api.put("ClusterKeyProvider", cluster)
            changed = api.get("EncryptedModel", "filetype")
            assert changed is not None
            changed["spec"]["keyProviderRef"]["kind"] = "ClusterKeyProvider"
            await api.put("EncryptedModel", changed)
            await until(lambda: not api.get("Deployment", "filetype"), "the pods are gone")
            refused = ("False", "NamespaceNotAllowed")
            await until(lambda: reason(api, "Accepted") == refused, "it is said")

    play(tmp_path, scenario)


def test_scaling_suspending_and_resuming(tmp_path: Path) -> None:
    async def scenario(api: FakeApi, folder: Path) -> None:
        await api.put("KeyProvider", fresh_provider())
        await api.put("EncryptedModel", fresh_model(replicas=3))
        async with running(api, folder) as replica:
            await settled(api, replica)
            for change, pods, budget in (({"suspend": True}, 0, 0), ({"suspend": False}, 3, 1)):
                model = api.get("EncryptedModel", "filetype")
                assert model is not None
                model["spec"] |= change
                await api.put("EncryptedModel", model)
                await until(partial(has_replicas, api, pods), f"there should be {pods} pods")
                await quiet(api, replica)
                assert len(api.of("PodDisruptionBudget")) == budget
                assert (reason(api)[1] == "Suspended") is change["suspend"]

    play(tmp_path, scenario)


def has_replicas(api: FakeApi, wanted: int) -> bool:
    live = api.get("Deployment", "filetype")
    return live is not None and live["spec"]["replicas"] == wanted


@pytest.mark.parametrize("code", [409, 429, 500, 503])
def test_faults_of_the_api_server_are_retried(tmp_path: Path, code: int) -> None:
    async def scenario(api: FakeApi, folder: Path) -> None:
        failures = {"left": 4}

        def fault(method: str, path: str) -> web.Response | None:
            if method not in ("POST", "PATCH") or "leases" in path or not failures["left"]:
                return None
            failures["left"] -= 1
            return status(code, "out of order")

        api.fault = fault
        await api.put("KeyProvider", fresh_provider())
        await api.put("EncryptedModel", fresh_model())
        async with running(api, folder):
            await until(lambda: reason(api)[0] and not failures["left"], "it is over")
            await until(lambda: api.get("Deployment", "filetype"), "there is a Deployment")

    play(tmp_path, scenario)


def test_a_refused_child_is_a_reason_and_keeps_no_other_back(tmp_path: Path) -> None:
    async def scenario(api: FakeApi, folder: Path) -> None:
        def fault(method: str, path: str) -> web.Response | None:
            refused = method == "POST" and path.endswith("/services")
            return status(403, "exceeded quota: services") if refused else None

        api.fault = fault
        await api.put("KeyProvider", fresh_provider())
        await api.put("EncryptedModel", fresh_model())
        async with running(api, folder) as replica:
            await settled(api, replica)
            assert reason(api) == ("False", "QuotaExceeded")
            assert api.get("Deployment", "filetype") is not None

    play(tmp_path, scenario)


def test_a_dropped_watch_is_taken_up_again(tmp_path: Path) -> None:
    async def scenario(api: FakeApi, folder: Path) -> None:
        await api.put("KeyProvider", fresh_provider())
        async with running(api, folder) as replica:
            await api.put("EncryptedModel", fresh_model())
            await settled(api, replica)
            api.drop_watches()
            await api.put("EncryptedModel", fresh_model("second"))
            await until(lambda: reason(api, name="second")[0], "the second model has a status")

    play(tmp_path, scenario)


def test_a_delete_that_no_watch_announced_is_found_by_the_list_check(tmp_path: Path) -> None:
    async def scenario(api: FakeApi, folder: Path) -> None:
        await api.put("KeyProvider", fresh_provider())
        await api.put("EncryptedModel", fresh_model())
        async with running(api, folder) as replica:
            await settled(api, replica)
            await api.remove("Deployment", "filetype", quiet=True)
            await replica.resync()
            await until(lambda: api.get("Deployment", "filetype"), "it is there again")

    play(tmp_path, scenario)


@contextlib.asynccontextmanager
async def agents(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[int]:
    """Serve reports as agents do; the port is given."""
    app = web.Application()
    app.router.add_get("/report", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def test_an_agents_report_becomes_the_status_within_seconds(tmp_path: Path) -> None:
    told = {"stage": Stage.UNWRAP.title, "reason": Reason.KEY_ACCESS_DENIED.value}

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=json.dumps(told).encode())

    async def scenario(api: FakeApi, folder: Path) -> None:
        await api.put("KeyProvider", fresh_provider())
        await api.put("EncryptedModel", fresh_model())
        async with (
            agents(answer) as port,
            running(api, folder, port, report_interval=0.2) as replica,
        ):
            await settled(api, replica)
            await deliver(api, ready=False)
            await until(lambda: reason(api)[1] == "KeyAccessDenied", "the denial is shown")
            assert reason(api, "KeyAvailable") == ("False", "KeyAccessDenied")
            told["reason"] = Reason.STARTING.value
            await until(lambda: reason(api)[1] == "Progressing", "the denial is over")

    play(tmp_path, scenario)


def test_a_model_that_stops_being_ready_says_why_in_its_first_status(tmp_path: Path) -> None:
    told = {"stage": Stage.LEASE.title, "reason": Reason.SERVING.value}

    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(0.3)  # an agent is not asked and has answered in the same moment
        return web.Response(body=json.dumps(told).encode())

    async def scenario(api: FakeApi, folder: Path) -> None:
        await api.put("KeyProvider", fresh_provider())
        await api.put("EncryptedModel", fresh_model())
        async with agents(answer) as port, running(api, folder, port) as replica:
            await settled(api, replica)
            await deliver(api)
            await until(lambda: reason(api) == ("True", "Serving"), "the model is ready")
            await until(lambda: reason(api, "KeyAvailable")[0] == "True", "the agent was heard")
            told.update(stage=Stage.UNWRAP.title, reason=Reason.KEY_ACCESS_DENIED.value)
            await deliver(api, ready=False)
            await until(lambda: reason(api)[0] == "False", "the model is not ready")
            assert reason(api)[1] == "KeyAccessDenied"

    play(tmp_path, scenario)


def test_a_model_whose_agent_is_gone_is_not_called_ready_for_long(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        asked.set()
        await asyncio.sleep(30)
        return web.Response()

    async def scenario(api: FakeApi, folder: Path) -> None:
        await api.put("KeyProvider", fresh_provider())
        await api.put("EncryptedModel", fresh_model())
        async with agents(answer) as port, running(api, folder, port) as replica:
            await settled(api, replica)
            await deliver(api)
            await until(lambda: reason(api) == ("True", "Serving"), "the model is ready")
            asked.clear()
            await deliver(api, ready=False)
            await until(asked.is_set, "the agent is asked")
            await until(lambda: reason(api)[0] == "False", "the model is not ready")

    play(tmp_path, scenario)


def test_a_providers_edit_rolls_in_waves_and_stops_at_a_failure(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(4)]

    async def scenario(api: FakeApi, folder: Path) -> None:
        await api.put("KeyProvider", fresh_provider())
        for name in names:
            await api.put("EncryptedModel", fresh_model(name))
        async with running(api, folder, concurrency=2) as replica:
            await until(lambda: all(reason(api, name=n)[0] for n in names), "all have a status")
            for name in names:
                await deliver(api, name)
            await until(lambda: all(reason(api, name=n)[0] == "True" for n in names), "ready")
            await quiet(api, replica)
            await api.put("KeyProvider", fresh_provider(vault={"namespace": "other"}))
            await until(lambda: len(rolled(api)) == 2, "two models roll")
            await quiet(api, replica)
            first = rolled(api)
            assert len(first) == 2
            assert [reason(api, name=n)[0] for n in names if n not in first] == ["True", "True"]
            await deliver(api, first[0])
            await until(lambda: len(rolled(api)) == 3, "a third takes the free place")
            broken = api.get("Deployment", first[1])
            assert broken is not None
            stuck = {"type": "Progressing", "reason": "ProgressDeadlineExceeded"}
            broken["status"] = {"conditions": [stuck]}
            await api.put("Deployment", broken)
            await deliver(api, next(n for n in rolled(api) if n not in first))
            await quiet(api, replica)
            assert len(rolled(api)) == 3
            await deliver(api, first[1])
            await until(lambda: len(rolled(api)) == 4, "the last one follows")

    play(tmp_path, scenario)


def rolled(api: FakeApi) -> list[str]:
    """Return the models whose Deployment got a template in a wave."""
    return [
        live["metadata"]["name"]
        for live in api.of("Deployment")
        if ANNOTATION_WAVE in live["metadata"]["annotations"]
    ]


def test_only_one_of_two_replicas_writes_and_the_other_takes_over(tmp_path: Path) -> None:
    async def scenario(api: FakeApi, folder: Path) -> None:
        await api.put("KeyProvider", fresh_provider())
        await api.put("EncryptedModel", fresh_model())
        async with running(api, folder, identity="b") as standby:
            await settled(api, standby)
            async with running(api, folder, identity="a") as second:
                await until(
                    lambda: second.operator.health.port and not second.operator.wrong(), "it lives"
                )
                writes = len(api.writes)
                await api.put("EncryptedModel", fresh_model("more"))
                await until(lambda: reason(api, name="more")[0], "the leader acts")
                assert not second.operator.leads
                assert len(api.writes) > writes
        async with running(api, folder, identity="a") as successor:
            await until(lambda: successor.operator.leads, "the lease was given back")
            await quiet(api, successor)
            await api.put("EncryptedModel", fresh_model("last"))
            await until(lambda: reason(api, name="last")[0], "the successor acts")

    play(tmp_path, scenario)


def test_without_crds_it_waits_and_says_so(tmp_path: Path) -> None:
    async def scenario(api: FakeApi, folder: Path) -> None:
        absent = {"now": True}

        def fault(_: str, path: str) -> web.Response | None:
            hidden = absent["now"] and path.startswith("/apis/modelseal.dev/")
            return status(404, "not found") if hidden else None

        api.fault = fault
        await api.put("KeyProvider", fresh_provider())
        await api.put("EncryptedModel", fresh_model())
        async with running(api, folder) as replica:
            await until(lambda: replica.operator.unready() is not None, "it says what it waits for")
            absent["now"] = False
            await until(lambda: reason(api)[0], "it goes on")
            assert replica.operator.unready() is None

    play(tmp_path, scenario)


def test_a_resource_that_breaks_the_code_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = make_plan

    def broken(facts: Any, settings: Any) -> Any:
        if facts.raw["metadata"]["name"] == "bad":
            raise ZeroDivisionError
        return honest(facts, settings)

    monkeypatch.setattr("modelseal_operator.reconcile.make_plan", broken)

    async def scenario(api: FakeApi, folder: Path) -> None:
        await api.put("KeyProvider", fresh_provider())
        async with running(api, folder, workers=1) as replica:
            await api.put("EncryptedModel", fresh_model("bad"))
            await api.put("EncryptedModel", fresh_model())
            await until(lambda: reason(api)[0], "the other model has its status")
            assert replica.operator.wrong() is None

    play(tmp_path, scenario)


def test_a_pod_that_only_wears_the_labels_is_neither_counted_nor_asked(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=b"{}")

    async def scenario(api: FakeApi, folder: Path) -> None:
        app = web.Application()
        app.router.add_get("/report", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            await api.put("KeyProvider", fresh_provider())
            await api.put("EncryptedModel", fresh_model())
            agents = int(runner.addresses[0][1])
            async with running(api, folder, agents, report_interval=0.1) as replica:
                await settled(api, replica)
                live = api.get("Deployment", "filetype")
                assert live is not None
                labels = live["spec"]["template"]["metadata"]["labels"]
                stranger = {"metadata": {"uid": "uid-of-nobody"}}
                for name, owner in (("forged-set", stranger), ("forged-pod", live)):
                    kind = "ReplicaSet" if name == "forged-set" else "Pod"
                    forged = owned(name, labels, owner)
                    state = {"type": "Ready", "status": "True"}
                    forged["status"] = {"phase": "Running", "conditions": [state]}
                    forged["status"]["podIP"] = "10.0.0.9"
                    await api.put(kind, forged)
                await quiet(api, replica)
                assert reason(api) == ("False", "Progressing")
                assert asked == []
                await deliver(api)
                await until(lambda: reason(api)[0] == "True", "the real pod counts")
                await until(lambda: asked, "the real pod is asked")
        finally:
            await runner.cleanup()

    play(tmp_path, scenario)


def test_a_lease_in_doubt_makes_models_wait_and_none_of_them_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubt, asked = True, 0
    real = Election.leads

    def leads(election: Election) -> bool:
        nonlocal asked
        asked += doubt
        held: bool = real.__get__(election)
        return held and not doubt

    async def scenario(api: FakeApi, folder: Path) -> None:
        nonlocal doubt
        doubt = False
        async with running(api, folder) as replica:
            await until(lambda: replica.operator.leads, "it leads")
            doubt = True
            await api.put("KeyProvider", fresh_provider())
            await api.put("EncryptedModel", fresh_model())
            await until(lambda: asked > 8, "the workers look at the lease")
            assert api.writes == []
            doubt = False
            await settled(api, replica)
            retries = replica.operator.metrics.reconciles.labels("retry")
            assert retries._value.get() == 0

    monkeypatch.setattr(Election, "leads", property(leads))
    play(tmp_path, scenario)


def test_a_leader_that_cannot_renew_stops_writing_before_its_lease_ends(tmp_path: Path) -> None:
    async def scenario(api: FakeApi, folder: Path) -> None:
        clock = {"now": 1000.0}
        transport = await connect(kubeconfig(api, folder))
        cluster = Cluster(
            transport,
            Bucket(100, lambda: clock["now"]),
            may_write=lambda: True,
            count=lambda _method, _status: None,
        )
        election = Election(
            cluster, name="l", namespace="n", identity="a", seconds=15, clock=lambda: clock["now"]
        )
        leading = asyncio.Event()

        async def work() -> None:
            leading.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(election.run(work))
        await asyncio.wait_for(leading.wait(), 5)
        assert election.leads
        api.fault = lambda _method, _path: status(500, "no lease today")
        clock["now"] += 9.4
        assert election.leads
        clock["now"] += 0.2
        assert not election.leads, "a write that takes 5 s could end after the lease"
        api.fault = lambda _method, _path: None
        await until(lambda: election.leads, "it leads again once it has renewed")
        await election.release()
        assert not election.leads
        lease = api.get("Lease", "l", "n")
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == ""
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await cluster.close()

    play(tmp_path, scenario)
