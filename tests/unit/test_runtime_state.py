"""Settings, lease, phases, queue and delivery of the runtime, without a process."""

import asyncio
import os
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from modelseal import memory
from modelseal.contract import Env
from modelseal.errors import PeerRejected, SettingsError
from modelseal.handover import File, Files, Model
from modelseal_runtime.calibration import Choice
from modelseal_runtime.delivery import Delivery
from modelseal_runtime.lease import Lease
from modelseal_runtime.metrics import Metrics
from modelseal_runtime.protocol.failure import Failure, Kind
from modelseal_runtime.protocol.query import Identity
from modelseal_runtime.scheduler import Job, Scheduler
from modelseal_runtime.serving import Phase, Served, Serving
from modelseal_runtime.settings import Settings, split_devices
from support.protocol_interfaces import one

REQUIRED: dict[str, str] = {Env.PEER_UID: "10001"}
CHOICE = Choice(hint="LATENCY", why="")


def test_settings_have_defaults_that_are_right_in_a_pod() -> None:
    settings = Settings.from_env(REQUIRED)
    assert str(settings.socket) == "/run/modelseal/agent.sock"
    assert (settings.rest_port, settings.grpc_port, settings.health_port) == (8080, 9000, 8082)
    assert (settings.devices, settings.hint, settings.model_name) == (("CPU",), "AUTO", None)
    assert not settings.allow_swap


def test_the_properties_of_devices_are_words() -> None:
    words = "CPU.NUM_STREAMS=2  GPU.INFERENCE_PRECISION_HINT=f16"
    found = Settings.from_env(REQUIRED | {Env.DEVICE_PROPERTIES: words}).device_properties
    assert found == {"CPU": {"NUM_STREAMS": "2"}, "GPU": {"INFERENCE_PRECISION_HINT": "f16"}}
    with pytest.raises(SettingsError, match="CACHE_DIR of CPU is not an allowed one"):
        Settings.from_env(REQUIRED | {Env.DEVICE_PROPERTIES: "CPU.CACHE_DIR=/tmp"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (Env.REST_PORT, "65536"),
        (Env.REST_PORT, "http"),
        (Env.REST_PORT, "-1"),
        (Env.PEER_UID, "root"),
        (Env.PERFORMANCE_HINT, "FAST"),
        (Env.LOG_LEVEL, "loud"),
        (Env.ALLOW_SWAP, "yes"),
        (Env.REQUEST_TIMEOUT, "0"),
        (Env.REQUEST_TIMEOUT, "nan"),
        (Env.DRAIN_SECONDS, "inf"),
        (Env.QUEUE_SIZE, "0"),
        (Env.BATCH_ROWS, "0"),
        (Env.BATCH_WAIT, "-1"),
        (Env.MAX_BODY_BYTES, "99999999999999"),
    ],
)
def test_a_setting_without_sense_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"failed to read the settings: {name} is"):
        Settings.from_env(REQUIRED | {name: value})


def test_the_agents_uid_is_needed_unless_the_socket_is_inherited() -> None:
    with pytest.raises(SettingsError, match="MODELSEAL_PEER_UID is not set"):
        Settings.from_env({})
    assert Settings.from_env({Env.SOCKET_FD: "5"}).socket_fd == 5


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("CPU", ("CPU",)),
        ("GPU,CPU", ("GPU", "CPU")),
        ("GPU CPU", ("GPU", "CPU")),
        ("AUTO:GPU,CPU", ("AUTO:GPU,CPU",)),
        ("AUTO:GPU,CPU; CPU", ("AUTO:GPU,CPU", "CPU")),
    ],
)
def test_devices_are_a_list_and_a_list_may_be_one_device(
    text: str, devices: tuple[str, ...]
) -> None:
    assert split_devices(text) == devices


def test_a_lease_ends_at_its_deadline_and_a_renewal_moves_it() -> None:
    now = 100.0
    lease = Lease(lambda: now)
    assert not lease.valid, "without a lease nothing may be served"
    lease.renew(10)
    assert (lease.valid, lease.left()) == (True, 10)
    now = 105.0
    lease.renew(2)
    assert lease.left() == 2, "a renewal also shortens"
    now = 107.0
    assert (lease.valid, lease.left()) == (False, 0)


def served(close: Callable[[], None] = lambda: None) -> Served:
    """Return a pretended model."""
    model: Any = SimpleNamespace(close=close, inputs=(), outputs=())
    identity = Identity(name="m", version="3")
    return Served(model=model, identity=identity, interface=one(), digest="sha256:0", choice=CHOICE)


def kind_of(serving: Serving, name: str = "m", version: str = "") -> Kind | None:
    """Return why a model may not be asked, or nothing."""
    try:
        serving.find(name, version)
    except Failure as failure:
        return failure.kind
    return None


def test_a_model_may_be_asked_only_when_it_is_loaded_and_within_its_lease() -> None:
    now = 0.0
    serving = Serving(Lease(lambda: now))
    assert kind_of(serving) is Kind.UNAVAILABLE
    serving.load()
    serving.serve(served())
    assert kind_of(serving) is Kind.UNAVAILABLE, "there is no lease yet"
    serving.lease.renew(10)
    assert kind_of(serving) is None
    assert kind_of(serving, version="3") is None
    assert kind_of(serving, name="n") is Kind.NOT_FOUND
    assert kind_of(serving, version="4") is Kind.NOT_FOUND
    now = 10.0
    assert kind_of(serving) is Kind.UNAVAILABLE
    assert not serving.ready


def test_a_draining_server_answers_but_is_not_ready() -> None:
    serving = Serving(Lease(lambda: 0.0))
    serving.lease.renew(10)
    serving.serve(served())
    serving.drain()
    assert not serving.ready
    assert kind_of(serving) is None


def test_phases_only_move_forward_and_watchers_hear_of_each() -> None:
    serving = Serving(Lease(lambda: 0.0))
    seen: list[Phase] = []
    serving.watch(lambda: seen.append(serving.phase))
    serving.load()
    serving.drain()
    serving.serve(served())
    serving.end()
    serving.drain()
    assert seen == [Phase.LOADING, Phase.DRAINING, Phase.ENDED]
    assert kind_of(serving) is Kind.UNAVAILABLE
    assert serving.end() is None, "the model is given away once"


def nothing(_: Job) -> None:
    """Observe nothing."""


def test_work_beyond_the_queue_is_refused_and_the_rest_is_answered() -> None:
    go = threading.Event()

    async def story() -> tuple[list[Any], int]:
        scheduler = Scheduler(queue_size=2, observe=nothing)
        scheduler.start(1)

        def work() -> str:
            assert go.wait(20)
            return "done"

        jobs = [asyncio.create_task(scheduler.run(work, 20)) for _ in range(5)]
        finished = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        unfinished = scheduler.unfinished
        go.set()
        await asyncio.wait(jobs)
        assert finished
        return [job.exception() or job.result() for job in jobs], unfinished

    results, unfinished = asyncio.run(story())
    assert unfinished == 3, "one runs, two wait"
    assert results[:3] == ["done"] * 3
    assert [getattr(one, "kind", None) for one in results[3:]] == [Kind.BUSY] * 2


def test_work_that_takes_too_long_is_answered_in_time_and_never_started_if_it_waits() -> None:
    go, started = threading.Event(), threading.Event()
    ran: list[str] = []

    async def story() -> list[Any]:
        scheduler = Scheduler(queue_size=8, observe=nothing)
        scheduler.start(1)

        def slow() -> None:
            started.set()
            assert go.wait(20)

        first = asyncio.create_task(scheduler.run(slow, 0.05))
        second = asyncio.create_task(scheduler.run(lambda: ran.append("late"), 0.05))
        results: list[Any] = [*await asyncio.gather(first, second, return_exceptions=True)]
        go.set()
        await scheduler.run(lambda: ran.append("next"), 20)
        return results

    results = asyncio.run(story())
    assert [getattr(one, "kind", None) for one in results] == [Kind.TIMEOUT] * 2
    assert ran == ["next"], "what nobody waits for is not run"


def test_failing_everything_answers_what_waits_and_what_runs() -> None:
    go = threading.Event()

    async def story() -> list[Any]:
        scheduler = Scheduler(queue_size=8, observe=nothing)
        scheduler.start(1)
        jobs = [asyncio.create_task(scheduler.run(lambda: go.wait(20), 20)) for _ in range(3)]
        await asyncio.sleep(0)
        scheduler.fail_all(Failure(Kind.UNAVAILABLE, "gone"))
        results: list[Any] = await asyncio.gather(*jobs, return_exceptions=True)
        go.set()
        return results

    results = asyncio.run(story())
    assert [getattr(one, "kind", None) for one in results] == [Kind.UNAVAILABLE] * 3


def test_a_request_that_fails_leaves_its_worker_alive() -> None:
    async def story() -> str:
        scheduler = Scheduler(queue_size=8, observe=nothing)
        scheduler.start(1)
        for error in (ValueError("x"), MemoryError(), StopIteration(), SystemExit(3)):
            with pytest.raises((ValueError, MemoryError, Failure)):
                await scheduler.run(lambda error=error: _raise(error), 20)  # type: ignore[misc]
        return await scheduler.run(lambda: "alive", 20)

    assert asyncio.run(story()) == "alive"


def _raise(error: BaseException) -> None:
    raise error


def test_metrics_say_what_happened() -> None:
    async def story() -> str:
        metrics = Metrics()
        scheduler = Scheduler(queue_size=8, observe=metrics.observe)
        scheduler.start(1)
        metrics.follow(Serving(), scheduler)
        await scheduler.run(lambda: None, 20)
        metrics.success("rest", seconds=0.1, received=10, sent=20)
        metrics.failure("grpc", Kind.BUSY)
        return metrics.render().decode()

    text = asyncio.run(story())
    for line in (
        'modelseal_inference_requests_total{protocol="rest"} 1.0',
        'modelseal_inference_failures_total{protocol="grpc",reason="busy"} 1.0',
        'modelseal_inference_request_bytes_total{protocol="rest"} 10.0',
        'modelseal_inference_response_bytes_total{protocol="rest"} 20.0',
        "modelseal_inference_queue_seconds_count 1.0",
        "modelseal_inference_compute_seconds_count 1.0",
        'modelseal_model_state{state="waiting"} 1.0',
        "modelseal_model_ready 0.0",
        "modelseal_lease_seconds_left 0.0",
        "modelseal_workers 1.0",
    ):
        assert line in text.splitlines()


def model(size: int = 8192, files: int = 1) -> Model:
    """Return a `Model` message."""
    return Model(model="a/b", version="1", digest="sha256:0", size=size, files=files)


def file(path: str = "a.xml", offset: int = 0, length: int = 1) -> File:
    """Return a file's entry."""
    return File(path=path, role="model", offset=offset, length=length)


def delivery(message: Model) -> Delivery:
    """Return a delivery with a descriptor of nothing."""
    return Delivery.begin(message, [os.open("/dev/null", os.O_RDONLY)])


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([file(), file("b.xml")], "more files than announced"),
        ([file(offset=8192)], "a file outside its memory"),
        ([file(length=8193)], "a file outside its memory"),
        ([file(offset=1 << 52, length=1 << 52)], "a file outside its memory"),
    ],
)
def test_files_that_do_not_fit_the_memory_are_refused(files: list[File], sentence: str) -> None:
    begun = delivery(model())
    with pytest.raises(PeerRejected, match=sentence):
        begun.add(Files(files=tuple(files)))
    begun.close()


def test_two_files_of_one_path_are_refused() -> None:
    begun = delivery(model(files=3))
    assert not begun.add(Files(files=(file(),)))
    with pytest.raises(PeerRejected, match="two files of one path"):
        begun.add(Files(files=(file(),)))
    begun.close()


@pytest.mark.parametrize("count", [0, 2])
def test_a_model_comes_with_exactly_one_descriptor_and_the_others_are_closed(count: int) -> None:
    descriptors = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    with pytest.raises(PeerRejected, match="not a delivery"):
        Delivery.begin(model(), descriptors)
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_the_memory_is_unmapped_when_its_last_user_has_left() -> None:
    owner = memory.PlaintextMemory(8192)
    owner.view[:3] = b"abc"
    owner.seal()
    begun = Delivery.begin(model(size=8192), [owner.reader()])
    assert begun.add(Files(files=(file(length=3),)))
    mapped = begun.map()
    first, second = mapped.user(), mapped.user()
    first()
    assert bytes(mapped.files["a.xml"]) == b"abc"
    second()
    assert mapped.files == {}
    with pytest.raises(ValueError, match="closed"):
        len(mapped._mapping)
    owner.release()
