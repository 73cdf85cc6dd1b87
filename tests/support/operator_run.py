"""Runs the operator in this process against the API server in memory."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import yaml

from modelseal_operator.app import Operator
from modelseal_operator.cluster import connect
from modelseal_operator.settings import Settings
from support.fake_api import FakeApi
from support.operator_objects import PODS, merged, model_object, provider_object

Json = dict[str, Any]
DEADLINE = 20.0


def kubeconfig(api: FakeApi, folder: Path) -> str:
    """Write a kubeconfig for the server and return its path."""
    path = folder / "kubeconfig"
    found = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": api.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(yaml.safe_dump(found), encoding="utf-8")
    return str(path)


async def until(check: Callable[[], object], what: str) -> None:
    """Wait until something holds, for a bounded time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + DEADLINE
    while not check():
        assert loop.time() < end, f"it never came true that {what}"
        await asyncio.sleep(0.02)


class Replica:
    """An operator in a thread of its own: kopf cancels every task of its loop when it ends."""

    def __init__(self, settings: Settings, agents: int) -> None:
        self._settings = settings
        self._agents = agents
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._operator: Operator | None = None

    async def _main(self) -> None:
        api = await connect(self._settings.kubeconfig)
        self._operator = Operator(self._settings, api, lambda _: f"127.0.0.1:{self._agents}")
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.ensure_future(self._operator.run())
        self._started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    @property
    def operator(self) -> Operator:
        """The operator; its properties may be read from here."""
        assert self._operator is not None
        return self._operator

    async def start(self) -> None:
        """Start the thread and wait for the operator to exist."""
        self._thread.start()
        assert await asyncio.to_thread(self._started.wait, DEADLINE)

    async def resync(self) -> None:
        """Make the list check now."""
        assert self._loop is not None
        check = asyncio.run_coroutine_threadsafe(self.operator.resync_now(), self._loop)
        await asyncio.wrap_future(check)

    async def stop(self) -> None:
        """End it as a signal would, and wait for the end."""
        assert self._loop is not None
        assert self._task is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)
        await asyncio.to_thread(self._thread.join, DEADLINE)

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()


@contextlib.asynccontextmanager
async def running(
    api: FakeApi, folder: Path, agents: int = 1, **changes: Any
) -> AsyncIterator[Replica]:
    """Run an operator; it must not have ended by itself when the block ends.

    All agents answer at the port `agents` of this machine.
    """
    path = kubeconfig(api, folder)
    replica = Replica(Settings(**{"pods": PODS, "kubeconfig": path, "port": 0, **changes}), agents)
    await replica.start()
    try:
        yield replica
        assert not replica.ended
    finally:
        await replica.stop()


def fresh_model(name: str = "filetype", **spec: object) -> Json:
    """Return a model as a user applies it."""
    found = merged(model_object(**spec), {"metadata": {"uid": None, "name": name}})
    found["metadata"].pop("resourceVersion")
    return found


def fresh_provider(**spec: object) -> Json:
    """Return a provider as an admin applies it."""
    found = merged(provider_object(**spec), {"metadata": {"uid": None}})
    found["metadata"].pop("resourceVersion")
    return found


def reason(api: FakeApi, kind: str = "Ready", name: str = "filetype") -> tuple[str, str]:
    """Return status and reason of a model's condition; empty while there is none."""
    raw = api.get("EncryptedModel", name) or {}
    conditions = raw.get("status", {}).get("conditions", [])
    found: Json = next((c for c in conditions if c["type"] == kind), {})
    return found.get("status", ""), found.get("reason", "")
