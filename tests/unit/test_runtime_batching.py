"""Batches: whose rows are put together, and that nobody gets the fate of another."""

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from modelseal.engine import LoadedModel
from modelseal.errors import RequestInvalid
from modelseal_runtime.batching import Batching, Inference, batching_of, run_together
from modelseal_runtime.calibration import Choice
from modelseal_runtime.protocol.failure import Failure, invalid
from modelseal_runtime.protocol.query import Identity, Interface, Query
from modelseal_runtime.scheduler import CAUTIOUS_REQUESTS, SLOW_SECONDS, Job, Scheduler
from modelseal_runtime.serving import Served
from support import models

Array = models.Array
CHOICE = Choice(hint="LATENCY", why="")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Load a model that takes rows."""
    contents = models.perceptron(width=8)
    with LoadedModel.load(models.views(contents), release=lambda: None, threads=1) as model:
        yield served_of(model)


def served_of(model: LoadedModel) -> Served:
    """Return a model as the runtime has it."""
    interface = Interface(model.inputs, model.outputs)
    identity = Identity(name="model", version="1")
    return Served(model=model, identity=identity, interface=interface, digest="", choice=CHOICE)


def asking(served: Served, array: Array, name: str = "x") -> Inference:
    """Return a request whose result is a copy of the output."""
    query = Query(id="", inputs={name: array}, outputs=())
    return Inference(served, lambda: query, lambda _, outputs: outputs["y"].copy())


def rows(count: int, seed: int = 0, width: int = 8) -> Array:
    """Return rows of a request."""
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def counting(served: Served) -> tuple[Served, list[int]]:
    """Return the same model, and the rows of every inference that it runs."""
    ran: list[int] = []
    model = served.model

    def run(inputs: Any, consume: Any) -> Any:
        ran.append(len(inputs["x"]))
        return model.run(inputs, consume)

    fake: Any = SimpleNamespace(run=run, fitting=model.fitting, inputs=model.inputs)
    return served_of_fake(served, fake), ran


def served_of_fake(served: Served, model: Any) -> Served:
    """Return a served model with another engine."""
    return Served(
        model=model,
        identity=served.identity,
        interface=served.interface,
        digest="",
        choice=CHOICE,
    )


def test_each_request_gets_its_own_rows(served: Served) -> None:
    spy, ran = counting(served)
    arrays = [rows(count, seed) for seed, count in enumerate((1, 3, 2))]
    outcomes = run_together([asking(spy, array) for array in arrays], rows=8)
    assert ran == [6]
    for array, (result, error) in zip(arrays, outcomes, strict=True):
        assert error is None
        np.testing.assert_allclose(result, served.model.infer({"x": array})["y"], rtol=1e-5)


def test_no_inference_has_more_rows_than_allowed_unless_one_request_has(served: Served) -> None:
    spy, ran = counting(served)
    outcomes = run_together([asking(spy, rows(count)) for count in (2, 2, 2, 9, 1)], rows=4)
    assert ran == [4, 2, 9, 1]
    assert [len(result) for result, _ in outcomes] == [2, 2, 2, 9, 1]


def test_a_request_that_does_not_fit_fails_alone(served: Served) -> None:
    spy, ran = counting(served)
    works = [asking(spy, rows(1)), asking(spy, rows(1), name="z"), asking(spy, rows(1, width=9))]
    malformed = Inference(spy, lambda: refuse("malformed"), lambda _, __: None)
    outcomes = run_together([*works, malformed, asking(spy, rows(2))], rows=8)
    assert ran == [3]
    kinds = [None if error is None else type(error) for _, error in outcomes]
    assert kinds == [None, RequestInvalid, RequestInvalid, Failure, None]


def refuse(why: str) -> Query:
    """Fail as parsing does."""
    raise invalid(why)


def test_an_answer_that_cannot_be_written_concerns_nobody_else(served: Served) -> None:
    query = Query(id="", inputs={"x": rows(1)}, outputs=())
    unwritable = Inference(served, lambda: query, lambda _, __: refuse("no UTF-8"))
    outcomes = run_together([asking(served, rows(1)), unwritable], rows=8)
    assert [error is None for _, error in outcomes] == [True, False]


def test_an_inference_that_fails_for_a_batch_is_tried_for_each_alone(served: Served) -> None:
    ran: list[int] = []

    def run(inputs: Any, consume: Any) -> Any:
        ran.append(len(inputs["x"]))
        if any(row[0] > 100 for row in inputs["x"]):
            raise RequestInvalid("a value is too large")
        return served.model.run(inputs, consume)

    model: Any = SimpleNamespace(run=run, fitting=served.model.fitting, inputs=served.model.inputs)
    spy = served_of_fake(served, model)
    bad = rows(1)
    bad[0, 0] = 1000
    outcomes = run_together([asking(spy, rows(1)), asking(spy, bad)], rows=8)
    assert ran == [2, 1, 1]
    assert [type(error) for _, error in outcomes] == [type(None), RequestInvalid]


@pytest.mark.parametrize(
    ("contents", "takes"),
    [
        (models.perceptron(width=8), True),
        (models.perceptron(width=8, batch=1), False),
        (models.joined("f32", []), False),
    ],
)
def test_only_models_whose_rows_vary_are_batched(contents: models.Files, takes: bool) -> None:
    with LoadedModel.load(models.views(contents), release=lambda: None, threads=1) as model:
        assert (batching_of(served_of(model), rows=8, seconds=0) is not None) == takes
        assert batching_of(served_of(model), rows=1, seconds=0) is None


def test_requests_that_wait_run_as_one(served: Served) -> None:
    spy, ran = counting(served)
    observed: list[Job] = []
    go = threading.Event()

    async def story() -> list[Array]:
        scheduler = Scheduler(queue_size=16, observe=observed.append)
        scheduler.start(1, batching=Batching(rows=8, seconds=0))
        blocker = asyncio.create_task(scheduler.run(lambda: go.wait(20), 20))
        await asyncio.sleep(0)
        tasks = [
            asyncio.create_task(scheduler.run(asking(spy, rows(1, seed)), 20)) for seed in range(5)
        ]
        while scheduler.unfinished < 6 or scheduler.waiting > 5:
            await asyncio.sleep(0)
        go.set()
        await blocker
        return list(await asyncio.gather(*tasks))

    results = asyncio.run(story())
    assert sum(ran) == 5
    assert len(ran) < 5
    assert max(job.together for job in observed) > 1
    for seed, result in enumerate(results):
        expected = served.model.infer({"x": rows(1, seed)})["y"]
        np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_a_short_request_runs_where_it_arrives_and_a_slow_one_teaches_caution() -> None:
    threads: list[str] = []

    def note(seconds: float = 0.0) -> None:
        threads.append(threading.current_thread().name)
        threading.Event().wait(seconds)

    async def story() -> None:
        scheduler = Scheduler(queue_size=8, observe=lambda _: None)
        scheduler.start(1, inline_bytes=100)
        await scheduler.run(note, 20, size=100)
        await scheduler.run(note, 20, size=101)
        await scheduler.run(lambda: note(SLOW_SECONDS * 2), 20, size=1)
        for _ in range(CAUTIOUS_REQUESTS):
            await scheduler.run(note, 20, size=1)
        await scheduler.run(note, 20, size=1)

    asyncio.run(story())
    main, worker = threading.current_thread().name, "infer-0"
    assert threads == [main, worker, main, *[worker] * CAUTIOUS_REQUESTS, main]
