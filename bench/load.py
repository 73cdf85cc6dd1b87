"""A client that costs little: one process, raw sockets, requests that were made once.

Run as a program, it prints one line of JSON: how many answers came in how many seconds (and in
total, warm-up included), its own CPU time, and latencies in milliseconds. Without a rate each
connection asks again as soon as it was answered; with one, requests are sent when they are due,
whatever the answers do, and latency counts from then.
"""

import argparse
import asyncio
import json
import resource
import statistics
import time
from collections import deque
from pathlib import Path
from typing import Any

import uvloop

TICK = 0.001
"""Seconds of the event loop's clock: it takes a shorter wait for none, and would spin."""


class Wire(asyncio.Protocol):
    """One connection with at most one request on its way."""

    def __init__(self, crew: "Crew") -> None:
        self._crew = crew
        self._transport: Any = None
        self._received = 0
        self._expected = -1
        self._head = b""
        self.since = 0.0

    def connection_made(self, transport: Any) -> None:
        """Be ready."""
        self._transport = transport
        self._crew.idle.append(self)

    def send(self, request: bytes, since: float) -> None:
        """Send a request that was due at `since`."""
        self.since = since
        self._received, self._expected, self._head = 0, -1, b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Count the answer's bytes."""
        if self._expected < 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._head[:end].lower()
            if not head.startswith(b"http/1.1 200"):
                self._crew.failed += 1
            at = head.index(b"content-length:") + 15
            length = head[at : head.find(b"\r", at) if head.find(b"\r", at) > 0 else None]
            self._expected = end + 4 + int(length)
            self._received = len(self._head)
        else:
            self._received += len(data)
        if self._received >= self._expected:
            self._crew.answered(self)


class Crew:
    """All connections, and what they measured."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.idle: deque[Wire] = deque()
        self.late: deque[float] = deque()
        self.latencies: list[float] = []
        self.failed = 0
        self.total = 0
        self.closed = False

    def answered(self, wire: Wire) -> None:
        """Note an answer; send the next request where there is one."""
        now = time.perf_counter()
        self.latencies.append(now - wire.since)
        self.total += 1
        if self.closed:
            wire.send(self._request, now)
        elif self.late:
            wire.send(self._request, self.late.popleft())
        else:
            self.idle.append(wire)

    def due(self, moment: float) -> None:
        """Send a request, or keep it until a connection is free."""
        if self.idle:
            self.idle.popleft().send(self._request, moment)
        else:
            self.late.append(moment)


async def run(options: argparse.Namespace) -> dict[str, float]:
    """Connect, warm up, measure."""
    crew = Crew(Path(options.request).read_bytes())
    loop = asyncio.get_running_loop()
    for _ in range(options.connections):
        await loop.create_connection(lambda: Wire(crew), options.host, options.port)
    if options.rate:
        return await _open(crew, options.rate, options.seconds)
    crew.closed = True
    while crew.idle:
        crew.due(time.perf_counter())
    await asyncio.sleep(0.5)
    return await _count(crew, options.seconds) | await _answered(crew, options.connections)


async def _open(crew: Crew, rate: float, seconds: float) -> dict[str, float]:
    task = asyncio.create_task(_clock(crew, rate))
    await asyncio.sleep(0.5)
    result = await _count(crew, seconds)
    task.cancel()
    return result


async def _answered(crew: Crew, connections: int) -> dict[str, float]:
    """Ask nothing more and wait for what is on its way: the server's work is then all counted."""
    crew.closed = False
    while len(crew.idle) < connections:
        await asyncio.sleep(0.001)
    return {"total": crew.total}


async def _clock(crew: Crew, rate: float) -> None:
    start, sent = time.perf_counter(), 0
    while True:
        due = int((time.perf_counter() - start) * rate)
        while sent < due:
            sent += 1
            crew.due(start + sent / rate)
        await asyncio.sleep(max(TICK, start + (sent + 1) / rate - time.perf_counter()))


async def _count(crew: Crew, seconds: float) -> dict[str, float]:
    crew.latencies.clear()
    crew.failed = 0
    start, used = time.perf_counter(), own_cpu()
    await asyncio.sleep(seconds)
    spent = time.perf_counter() - start
    found = sorted(crew.latencies)
    return {
        "requests": len(found),
        "total": crew.total,
        "failed": crew.failed,
        "seconds": spent,
        "rate": len(found) / spent,
        "client_cpu_us": (own_cpu() - used) / max(1, len(found)) * 1e6,
        "p50_ms": statistics.median(found) * 1000 if found else 0.0,
        "p99_ms": found[int(len(found) * 0.99)] * 1000 if found else 0.0,
    }


def own_cpu() -> float:
    """Return the processor seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("request", help="a file with one whole HTTP request")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rate", type=float, default=0, help="requests per second; 0: closed loop")
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
