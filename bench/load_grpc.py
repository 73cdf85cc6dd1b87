"""The gRPC client beside `bench.load`: one process, calls whose bytes were made once.

Run as a program, it prints one line of JSON: how many answers came in how many seconds, in total
with the warm-up included, and its own CPU time. Each connection has one call on its way.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

import grpc.aio

from bench.load import own_cpu

METHOD = "/inference.GRPCInferenceService/ModelInfer"
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))


async def run(options: argparse.Namespace) -> dict[str, float]:
    """Connect, warm up, count, and wait for what is on its way."""
    request = Path(options.request).read_bytes()
    target = f"{options.host}:{options.port}"
    crew = Crew(request)
    channels = [
        grpc.aio.insecure_channel(target, options=_OPTIONS) for _ in range(options.connections)
    ]
    tasks = [asyncio.create_task(crew.ask(channel)) for channel in channels]
    await asyncio.sleep(0.5)
    found = await crew.count(options.seconds)
    crew.asking = False
    await asyncio.gather(*tasks)
    for channel in channels:
        await channel.close(None)
    return found | {"total": crew.total, "failed": 0}


class Crew:
    """All connections, and what they counted; a call that fails ends the program."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.asking = True
        self.total = 0

    async def ask(self, channel: Any) -> None:
        """Ask again as soon as there is an answer."""
        call = channel.unary_unary(METHOD)
        while self.asking:
            await call(self._request)
            self.total += 1

    async def count(self, seconds: float) -> dict[str, float]:
        """Return what came within these seconds."""
        start, used, before = time.perf_counter(), own_cpu(), self.total
        await asyncio.sleep(seconds)
        spent, answers = time.perf_counter() - start, self.total - before
        return {
            "requests": answers,
            "seconds": spent,
            "rate": answers / spent,
            "client_cpu_us": (own_cpu() - used) / max(1, answers) * 1e6,
        }


def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("request", help="a file with one serialized ModelInferRequest")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
