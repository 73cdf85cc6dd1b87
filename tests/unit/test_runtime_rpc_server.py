"""Connections of gRPC: how many there may be, and when a peer that says nothing is given up."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from modelseal_runtime.budget import Budget
from modelseal_runtime.metrics import Metrics
from modelseal_runtime.rpc.server import Bounds, GrpcServer
from modelseal_runtime.rpc.service import InferenceService
from modelseal_runtime.scheduler import Scheduler
from modelseal_runtime.serving import Serving
from support import http2

LIVE = "/inference.GRPCInferenceService/ServerLive"


@asynccontextmanager
async def listening(bounds: Bounds) -> AsyncIterator[int]:
    """Run a server without a model; yield its port."""
    metrics = Metrics()
    scheduler = Scheduler(queue_size=1, observe=metrics.observe)
    service = InferenceService(Serving(), scheduler, metrics, Budget(1 << 20), request_timeout=5)
    server = GrpcServer(
        service,
        max_body_bytes=1 << 20,
        max_calls=8,
        request_seconds=5,
        drain_seconds=30,
        bounds=bounds,
    )
    port = server.listen("127.0.0.1", 0)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def live(port: int) -> bool:
    """Whether a client that behaves is answered."""
    untyped: Any = grpc.aio
    async with untyped.insecure_channel(f"127.0.0.1:{port}") as channel:
        return bool(await channel.unary_unary(LIVE)(b"", timeout=20, wait_for_ready=True))


def ends(connection: socket.socket) -> None:
    """Read until the server ends the connection; an error where it does not in time."""
    connection.settimeout(20)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass


def played(bounds: Bounds, story: Callable[[int], Awaitable[None]]) -> None:
    """Play a story against a server."""

    async def play() -> None:
        async with listening(bounds) as port:
            await story(port)

    asyncio.run(play())


@pytest.mark.parametrize("said", [b"", b"PRI * HTTP/2.0\r\n"])
def test_a_connection_that_does_not_begin_is_ended(said: bytes) -> None:
    async def story(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(said)
            await asyncio.to_thread(ends, connection)
        assert await live(port)

    played(Bounds(handshake_seconds=0.5), story)


def test_a_peer_that_does_not_answer_pings_is_given_up() -> None:
    async def story(port: int) -> None:
        with http2.connected(port) as connection:
            await asyncio.to_thread(ends, connection)
        assert await live(port)

    played(Bounds(ping_seconds=1, pong_seconds=0.5), story)


def test_connections_beyond_the_limit_are_refused_and_make_room_when_they_end() -> None:
    async def story(port: int) -> None:
        kept = [http2.connected(port) for _ in range(2)]
        for one in kept:
            assert await asyncio.to_thread(one.recv, 1)
        with socket.create_connection(("127.0.0.1", port)) as third:
            await asyncio.to_thread(ends, third)
        for one in kept:
            one.close()
        assert await live(port)

    played(Bounds(connections=2), story)
