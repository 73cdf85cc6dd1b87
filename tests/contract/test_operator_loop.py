"""The operator's loop, watches and all, against an API server in memory that has faults."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from modelseal.contract import ANNOTATION_WAVE
from modelseal_operator.plan import make_plan
from support.fake_api import FakeApi, status
from support.operator_play import deliver, play, quiet, settled
from support.operator_run import fresh_model, fresh_provider, reason, running, until

CHILDREN = ("ConfigMap", "NetworkPolicy", "Service", "Deployment")


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
