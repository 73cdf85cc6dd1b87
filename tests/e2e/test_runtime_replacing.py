"""One server goes and another comes: clients of gRPC lose no call, however often they call."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from modelseal.contract import Env
from modelseal.handover import Loaded
from modelseal_runtime.proto import open_inference_pb2 as pb
from support import models
from support.protocol_runtime import Runtime, joined, stop
from support.tcp_service import standing

pytestmark = pytest.mark.e2e
CLIENTS = 8
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
DRAIN = 4
SETTINGS = {
    Env.QUEUE_SIZE: "2000",
    Env.PERFORMANCE_HINT: "LATENCY",
    Env.DRAIN_SECONDS: str(DRAIN),
}


@contextmanager
def served(log: Path) -> Iterator[Runtime]:
    """Serve a small model, with room for all."""
    with joined(log, SETTINGS) as (runtime, agent):
        assert isinstance(agent.deliver(models.perceptron()), Loaded), runtime.describe()
        runtime.wait_ready()
        yield runtime


def asking(channel: grpc.Channel) -> Callable[[], object]:
    """Return how to ask once."""
    request = pb.ModelInferRequest(model_name="model")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 64])
    request.raw_input_contents.append(np.linspace(-1, 1, 64, dtype=np.float32).tobytes())
    call: Any = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        lambda message: message.SerializeToString(),
        pb.ModelInferResponse.FromString,
    )
    return lambda: call(request, timeout=60)


def ask_on(port: int, ended: threading.Event, asked: threading.Event) -> list[str]:
    """Ask without pause on a connection of one's own until the end; return every failure."""
    failed = []
    with grpc.insecure_channel(f"127.0.0.1:{port}", OWN_CONNECTION) as channel:
        ask = asking(channel)
        while not ended.is_set():
            try:
                ask()
            except grpc.RpcError as error:
                failed.append(str(error))
            asked.set()
    return failed


def test_clients_move_to_the_next_server_without_a_lost_call(tmp_path: Path) -> None:
    ended = threading.Event()
    with ExitStack() as stack:
        old, new = (stack.enter_context(served(tmp_path / name)) for name in ("old", "new"))
        service = stack.enter_context(standing(old.ports["grpc"]))
        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        stack.callback(ended.set)
        asked = [threading.Event() for _ in range(CLIENTS)]
        calls = [pool.submit(ask_on, service.port, ended, one) for one in asked]
        assert all(one.wait(60) for one in asked)
        service.target = new.ports["grpc"]
        stop(old)
        assert old.exit_code() == 0
        ended.set()
        assert [failure for found in calls for failure in found.result()] == []
        assert service.opened >= 2 * CLIENTS, "every client has moved"


def test_a_server_stays_until_silent_clients_have_left(tmp_path: Path) -> None:
    with served(tmp_path / "log") as runtime:
        with grpc.insecure_channel(f"127.0.0.1:{runtime.ports['grpc']}") as channel:
            asking(channel)()
            asked = time.monotonic()
            stop(runtime)
            assert runtime.exit_code() == 0
        assert 0.4 * DRAIN < time.monotonic() - asked < DRAIN
