"""The parts of the runtime, put together in one event loop."""

import asyncio
import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from modelseal.handover import Channel, Model
from modelseal_runtime import agent
from modelseal_runtime.batching import batching_of
from modelseal_runtime.budget import Budget
from modelseal_runtime.delivery import Mapped
from modelseal_runtime.ending import Ending
from modelseal_runtime.http.probes import ProbeApplication
from modelseal_runtime.http.rest import RestApplication
from modelseal_runtime.http.server import HttpServer, listen
from modelseal_runtime.loading import load
from modelseal_runtime.logs import log
from modelseal_runtime.metrics import Metrics
from modelseal_runtime.protocol.failure import Failure, Kind
from modelseal_runtime.rpc.server import GrpcServer
from modelseal_runtime.rpc.service import InferenceService
from modelseal_runtime.scheduler import Scheduler
from modelseal_runtime.serving import Served, Serving
from modelseal_runtime.settings import Settings

FLUSH_SECONDS: Final = 0.1
"""How long answers to refused requests may take to leave."""
SPARE_CALLS: Final = 64
"""gRPC calls beyond those that the queue takes: health, metadata, reflection."""
PROBE_BYTES: Final = 16 << 20
"""What requests and unread answers of probes may hold."""
QUIET_SECONDS: Final = 0.5
"""After so long without a request, a draining server may close its connections."""


class Program:
    """Listens, serves what the agent delivers, and drains on a signal."""

    def __init__(self, settings: Settings) -> None:
        self._settings: Final = settings
        self._loop: Final = asyncio.get_running_loop()
        self._serving: Final = Serving()
        self._metrics: Final = Metrics()
        self._scheduler: Final = Scheduler(
            queue_size=settings.queue_size, observe=self._metrics.observe
        )
        self._metrics.follow(self._serving, self._scheduler)
        self._budget: Final = Budget(settings.max_body_bytes * settings.queue_size)
        self._stop: Final = asyncio.Event()
        self._grpc: Final = GrpcServer(
            InferenceService(
                self._serving,
                self._scheduler,
                self._metrics,
                self._budget,
                request_timeout=settings.request_timeout,
            ),
            max_body_bytes=settings.max_body_bytes,
            max_calls=settings.queue_size + SPARE_CALLS,
            request_seconds=settings.request_timeout,
            drain_seconds=settings.drain_seconds,
        )
        self._probes: Final = ProbeApplication(
            self._serving, self._metrics, lambda: self._link.alive
        )
        self._end: Final = Ending(self._unload, settings.termination_log)
        self._link: Final = agent.AgentLink(
            connect=self._connection(),
            reconnects=settings.socket_fd is None,
            serving=self._serving,
            load=self._load,
            end=self._end,
        )

    async def run(self) -> None:
        """Serve until a signal comes, then drain.

        Raises:
            PortInUse: a port is taken.
            SettingsError: an address cannot be used.

        """
        settings = self._settings
        with (
            listen(settings.host, settings.rest_port) as rest,
            listen(settings.host, settings.health_port) as probes,
        ):
            grpc_port = self._grpc.listen(settings.host, settings.grpc_port)
            rest_server, probe_server = self._http_servers()
            await rest_server.start(rest)
            await probe_server.start(probes)
            await self._grpc.start()
            self._serving.watch(self._phase_changed)
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._stop.set)
            announce(rest.getsockname()[1], grpc_port, probes.getsockname()[1])
            self._link.start()
            await self._stop.wait()
            rest_server.closing = True  # so that clients go elsewhere with their next request
            until = time.monotonic() + settings.drain_seconds
            await self._quiet(until)
            left = max(0.0, until - time.monotonic())
            await asyncio.gather(self._grpc.stop(left), rest_server.stop(left))
            await probe_server.stop(0.0)
            self._close(max(0.0, until - time.monotonic()))

    def _http_servers(self) -> tuple[HttpServer, HttpServer]:
        settings = self._settings
        rest = RestApplication(
            self._serving,
            self._scheduler,
            self._metrics,
            max_body_bytes=settings.max_body_bytes,
            request_timeout=settings.request_timeout,
        )
        rest_server = HttpServer(rest, self._budget, request_seconds=settings.request_timeout)
        self._metrics.follow_budget(self._budget, lambda: rest_server.unread)
        return (
            rest_server,
            HttpServer(self._probes, Budget(PROBE_BYTES), request_seconds=settings.request_timeout),
        )

    async def _quiet(self, until: float) -> None:
        """Turn unready, and answer on until for a while nobody asked or was connected by gRPC."""
        self._serving.drain()
        log(logging.INFO, "draining", unfinished=self._scheduler.unfinished)
        if self._serving.model is None:
            return
        quiet_since = time.monotonic()
        while time.monotonic() < until - QUIET_SECONDS:
            if self._scheduler.busy_since(quiet_since) or self._grpc.busy:
                quiet_since = time.monotonic()
            if time.monotonic() - quiet_since >= QUIET_SECONDS:
                return
            await asyncio.sleep(QUIET_SECONDS / 10)

    def _connection(self) -> Callable[[], Channel]:
        settings = self._settings
        if settings.socket_fd is not None:
            return partial(agent.inherit, settings.socket_fd)
        return partial(agent.connect, settings.socket, settings.peer_uid or 0)

    def _load(self, model: Model, memory: Mapped) -> Served:
        """Load a model on the thread that calls, and serve it."""
        settings, started = self._settings, time.monotonic()
        served = load(
            model,
            memory,
            name=settings.model_name,
            devices=settings.devices,
            hint=settings.hint,
            by_device=settings.device_properties,
        )
        self._metrics.loaded(served, time.monotonic() - started)
        self._scheduler.start(
            served.model.requests,
            inline_bytes=served.inline_bytes,
            batching=batching_of(served, rows=settings.batch_rows, seconds=settings.batch_wait),
        )
        self._serving.serve(served)
        return served

    def _unload(self, seconds: float) -> None:
        """Refuse everything, give the answers a moment to leave, and drop the model."""
        served = self._serving.end()
        self._scheduler.fail_all(
            Failure(Kind.UNAVAILABLE, "the right to serve the model has ended")
        )
        left = threading.Event()
        self._loop.call_soon_threadsafe(self._loop.call_later, FLUSH_SECONDS, left.set)
        left.wait(seconds / 2)
        if served is not None:
            served.model.close(seconds / 2)

    def _close(self, seconds: float) -> None:
        served = self._serving.end()
        if served is not None:
            served.model.close(seconds)

    def _phase_changed(self) -> None:
        ready = self._serving.ready
        self._loop.call_soon_threadsafe(self._probes.phase_changed)
        self._loop.call_soon_threadsafe(
            lambda: self._loop.create_task(self._grpc.report(ready=ready))
        )


def announce(rest: int, grpc: int, health: int) -> None:
    """Print the ports as one line of JSON on stdout."""
    sys.stdout.write(json.dumps({"rest": rest, "grpc": grpc, "health": health}) + "\n")
    sys.stdout.flush()
