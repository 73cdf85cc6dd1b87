"""What a refused request leaves in memory."""

import asyncio
import gc
from typing import Any

from modelseal_runtime.budget import Budget
from modelseal_runtime.http.connection import HttpConnection
from modelseal_runtime.http.rest import RestApplication
from modelseal_runtime.http.server import HttpServer
from modelseal_runtime.metrics import Metrics
from modelseal_runtime.scheduler import Scheduler
from modelseal_runtime.serving import Serving

REFUSED = b"POST /v2/models/other/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class Transport:
    """A peer that takes everything."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep an answer."""
        self.answers.append(data)

    def set_write_buffer_limits(self, high: int) -> None:
        """Have no buffer."""

    def resume_reading(self) -> None:
        """Go on, though nobody asked to pause."""


def test_a_refused_request_leaves_nothing_to_the_garbage_collector() -> None:
    async def story() -> tuple[int, list[bytes]]:
        metrics = Metrics()
        scheduler = Scheduler(queue_size=8, observe=metrics.observe)
        application = RestApplication(
            Serving(), scheduler, metrics, max_body_bytes=1024, request_timeout=5
        )
        host: Any = HttpServer(application, Budget(1 << 20), request_seconds=5)
        connection, transport = HttpConnection(host), Transport()
        connection.connection_made(transport)
        connection.data_received(REFUSED)  # the first one is logged, and caches are filled
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                connection.data_received(REFUSED)
            return gc.collect(), transport.answers
        finally:
            gc.enable()

    garbage, answers = asyncio.run(story())
    assert len(answers) == 101
    assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)
    assert garbage < 100
