"""Scenes of the operator against an API server in memory: what is waited for, what others do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from modelseal.contract import LABEL_TEMPLATE
from support.fake_api import FakeApi
from support.operator_run import Replica, reason, until


def play(folder: Path, scenario: Callable[[FakeApi, Path], Awaitable[None]]) -> None:
    """Run a scene, for a minute at most."""

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


async def deliver(api: FakeApi, name: str = "filetype", *, ready: bool = True) -> None:
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
    """Return an object with these labels that belongs to another."""
    reference = {"uid": owner["metadata"]["uid"], "controller": True, "name": "x", "kind": "y"}
    metadata = {"name": name, "namespace": "vision", "labels": labels}
    return {"metadata": {**metadata, "ownerReferences": [reference]}}


@contextlib.asynccontextmanager
async def agents(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[int]:
    """Serve reports as agents do; the port is given."""
    app = web.Application()
    app.router.add_get("/report", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
