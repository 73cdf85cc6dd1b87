"""The operator and its agents, whose reports become the status."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from modelseal.contract import Reason, Stage
from support.fake_api import FakeApi
from support.operator_play import agents, deliver, owned, play, quiet, settled
from support.operator_run import Replica, fresh_model, fresh_provider, reason, running, until


@contextlib.asynccontextmanager
async def asking(
    api: FakeApi,
    folder: Path,
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
    **changes: Any,
) -> AsyncIterator[Replica]:
    """Run an operator with one model, whose agents answer like this."""
    await api.put("KeyProvider", fresh_provider())
    await api.put("EncryptedModel", fresh_model())
    async with agents(answer) as port, running(api, folder, port, **changes) as replica:
        await settled(api, replica)
        yield replica


def test_an_agents_report_becomes_the_status_within_seconds(tmp_path: Path) -> None:
    told = {"stage": Stage.UNWRAP.title, "reason": Reason.KEY_ACCESS_DENIED.value}

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=json.dumps(told).encode())

    async def scenario(api: FakeApi, folder: Path) -> None:
        async with asking(api, folder, answer, report_interval=0.2):
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
        async with asking(api, folder, answer):
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
        async with asking(api, folder, answer):
            await deliver(api)
            await until(lambda: reason(api) == ("True", "Serving"), "the model is ready")
            asked.clear()
            await deliver(api, ready=False)
            await until(asked.is_set, "the agent is asked")
            await until(lambda: reason(api)[0] == "False", "the model is not ready")

    play(tmp_path, scenario)


def test_a_pod_that_only_wears_the_labels_is_neither_counted_nor_asked(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=b"{}")

    async def scenario(api: FakeApi, folder: Path) -> None:
        async with asking(api, folder, answer, report_interval=0.1) as replica:
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

    play(tmp_path, scenario)
