"""Asking agents how they are: `GET :8081/report` of pods that the model's own ReplicaSets control.

Off the reconcile path, one second each, no redirects, nothing ambient, at most 4 KiB; what comes
back is untrusted (`foreign`). No answer is no report.
"""

import asyncio
import ipaddress
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import aiohttp

from modelseal.contract import MAX_REPORT_BYTES, REPORT_PORT
from modelseal_operator.foreign import Report, parse_report
from modelseal_operator.jsonview import dig, text_at
from modelseal_operator.metrics import Metrics
from modelseal_operator.pods import is_ready
from modelseal_operator.queue import KeyedQueue
from modelseal_operator.store import Key

Json = dict[str, Any]
SECONDS: Final = 1.0
SOON: Final = 3.0
"""Seconds between polls of a pod that is not ready: its agent moves on without the pod changing."""
FIRST_WORD: Final = 1.5
"""Longest seconds that a model's pass waits for what agents of pods that stopped serving say."""
ASKERS: Final = 8
Place = Callable[[Mapping[str, object]], str | None]
"""Tells where a pod's agent answers, as host and port."""


class Reports:
    """Keeps the latest report of each pod in a mapping, by the pod's uid."""

    def __init__(
        self,
        *,
        pods_of: Callable[[Key], Iterable[Json]],
        changed: Callable[[Key], None],
        metrics: Metrics,
        interval: float,
        clock: Callable[[], float],
        by_uid: dict[str, Report],
        place: Place,
    ) -> None:
        self._pods_of: Final = pods_of
        self._changed: Final = changed
        self._metrics: Final = metrics
        self._interval: Final = interval
        self._place: Final = place
        self._queue: Final[KeyedQueue[Key]] = KeyedQueue(clock)
        self._told: dict[Key, dict[str, Report]] = {}
        self._rounds: dict[Key, int] = {}
        self._awaited: dict[Key, float] = {}
        self._clock: Final = clock
        self._by_uid: Final = by_uid

    def ask(self, key: Key) -> None:
        """Ask the pods of a model soon; called when one of them changes."""
        self._rounds.pop(key, None)
        self._queue.add(key)

    def ask_first(self, key: Key) -> None:
        """Ask at once, and have the model's pass wait a moment for the answer."""
        self._awaited[key] = self._clock() + FIRST_WORD
        self.ask(key)

    def awaited(self, key: Key) -> float:
        """Return the seconds for which a model's pass should still wait."""
        return max(self._awaited.get(key, 0.0) - self._clock(), 0.0)

    async def run(self) -> None:
        """Ask until cancelled."""
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        connector = aiohttp.TCPConnector(limit=64, force_close=True)
        async with (
            aiohttp.ClientSession(
                timeout=timeout, connector=connector, trust_env=False, auto_decompress=False
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(ASKERS):
                group.create_task(self._asker(session))

    async def _asker(self, session: aiohttp.ClientSession) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._round(session, key)
            finally:
                self._queue.done(key)

    async def _round(self, session: aiohttp.ClientSession, key: Key) -> None:
        awaited = self._awaited.get(key)
        pods = {text_at(raw, "metadata", "uid"): raw for raw in self._pods_of(key)}
        addresses = {uid: self._place(raw) for uid, raw in pods.items()}
        wanted = {uid: address for uid, address in addresses.items() if address}
        answers = await asyncio.gather(*(self._ask(session, a) for a in wanted.values()))
        found = {uid: a for uid, a in zip(wanted, answers, strict=True) if a is not None}
        self._keep(key, found)
        if awaited is not None and self._awaited.get(key) == awaited:
            del self._awaited[key]
            self._changed(key)
        if pods:
            ready = all(is_ready(raw) for raw in pods.values())
            wait = self._interval if ready else self._patience(key)
            self._queue.add(key, wait * random.uniform(0.8, 1.2))  # noqa: S311 (jitter, no secret)

    def _patience(self, key: Key) -> float:
        """Return when to ask a pod that is not ready again: less and less often."""
        rounds = self._rounds.get(key, 0)
        self._rounds[key] = rounds + 1
        return min(SOON * 1.3 ** min(rounds, 32), self._interval)

    def _keep(self, key: Key, found: dict[str, Report]) -> None:
        before = self._told.pop(key, {})
        for uid in before.keys() - found.keys():
            self._by_uid.pop(uid, None)
        self._by_uid.update(found)
        if found:
            self._told[key] = found
        if found != before:
            self._rounds.pop(key, None)
            self._changed(key)

    async def _ask(self, session: aiohttp.ClientSession, address: str) -> Report | None:
        url = f"http://{address}/report"
        try:
            async with session.get(url, allow_redirects=False) as answer:
                body = await _bounded(answer, MAX_REPORT_BYTES)
                report = parse_report(body) if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            self._metrics.reports.labels("no answer").inc()
            return None
        self._metrics.reports.labels("report" if report else "malformed").inc()
        return report


def address_of(raw: Mapping[str, object]) -> str | None:
    """Return where a pod's agent listens, or None if it cannot or may not be asked."""
    # with its native sidecar a pod is Pending until its server has started
    asked = text_at(raw, "status", "phase") in ("Pending", "Running")
    if not asked or dig(raw, "spec", "hostNetwork"):
        return None
    try:
        address = ipaddress.ip_address(text_at(raw, "status", "podIP"))
    except ValueError:
        return None
    if address.is_loopback or address.is_link_local or address.is_multicast:
        return None
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"{host}:{REPORT_PORT}"


async def _bounded(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    body = b""
    async for chunk in answer.content.iter_chunked(limit + 1):
        body += chunk
        if len(body) > limit:
            raise ValueError("the report is too long")
    return body
