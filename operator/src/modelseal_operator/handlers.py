"""The watches, through kopf; the only module that imports it.

Only `on.event` handlers: they put what they get into the store and a key on the queue. kopf writes
nothing to any object, adds no finalizer, and keeps no progress. It logs in with short-lived
credentials of our own choosing, so that a rotated token is picked up.
"""

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import kopf

from modelseal_operator.kinds import Kind
from modelseal_operator.settings import Settings

CREDENTIAL_MINUTES: Final = 5
Deliver = Callable[[Kind, str | None, dict[str, Any]], None]


async def watch(
    settings: Settings, kinds: Iterable[Kind], deliver: Deliver, started: Callable[[], None]
) -> None:
    """Watch until cancelled; whatever ends the watching is raised.

    Starting takes over the process's signals; `started` is called when that has happened. At the
    end every task is cancelled that was created since the start, whoever created it.
    """
    registry = kopf.OperatorRegistry()
    configuration = _configuration()
    kopf.on.login(registry=registry)(_login(settings))
    for kind in kinds:
        if kind.selector:
            place = (kind.group, kind.version, kind.plural)
            configuration.watching.label_selectors[place] = kind.selector
        _register(registry, kind, deliver)
    before = asyncio.all_tasks()
    # kopf would ask who the user is, and the uid of a container has no name
    identity: Any = settings.identity
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=configuration,
        standalone=True,
        identity=identity,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
    )
    started()
    await kopf.run_tasks(tasks, ignored=before)


def _register(registry: kopf.OperatorRegistry, kind: Kind, deliver: Deliver) -> None:
    async def seen(event: Any, **_: object) -> None:
        deliver(kind, event["type"], event["object"])

    place = (kind.group, kind.version, kind.plural)
    kopf.on.event(*place, id=f"seen-{kind.plural}", registry=registry)(seen)


def _configuration() -> kopf.OperatorSettings:
    found = kopf.OperatorSettings()
    found.scanning.disabled = True
    found.posting.enabled = False
    found.posting.level = 100
    found.watching.server_timeout = 300
    found.watching.client_timeout = 310
    found.watching.connect_timeout = 10
    found.watching.chunk_size = 500
    found.networking.request_timeout = 30
    found.networking.connect_timeout = 10
    # an API server that was away for minutes is found again in seconds
    found.networking.error_backoffs = (1, 1, 2, 3, 5, 5, 5, 5)
    # never written, because there are only event handlers; a name of our own all the same
    found.persistence.finalizer = "modelseal.dev/unused"
    found.persistence.progress_storage = _NoProgress()
    found.persistence.diffbase_storage = _NoDifference()
    return found


class _NoProgress(kopf.ProgressStorage):
    """Keeps nothing: an event handler is not tried again."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None: ...

    def purge(self, **_: Any) -> None: ...

    def touch(self, **_: Any) -> None: ...

    def clear(self, *, essence: Any) -> Any:
        return essence


class _NoDifference(kopf.DiffBaseStorage):
    """Compares nothing: the copies of every object that comparing takes were most of our time."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None: ...


def _login(settings: Settings) -> Callable[..., Awaitable[kopf.ConnectionInfo | None]]:
    async def login(**context: Any) -> kopf.ConnectionInfo | None:
        if settings.kubeconfig:
            os.environ["KUBECONFIG"] = settings.kubeconfig
            found = kopf.login_with_kubeconfig(**context)
        else:
            found = kopf.login_with_service_account(**context)
        if found is None:
            return None
        expires = datetime.now(UTC) + timedelta(minutes=CREDENTIAL_MINUTES)
        return dataclasses.replace(found, expiration=expires)

    return login
