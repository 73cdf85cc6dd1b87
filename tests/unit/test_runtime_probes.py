"""A question for readiness waits for a model that is on its way, and for nothing else."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from types import SimpleNamespace
from typing import Any

import pytest

from modelseal_runtime.http import probes
from modelseal_runtime.http.messages import Head, Reply
from modelseal_runtime.http.probes import ProbeApplication
from modelseal_runtime.metrics import Metrics
from modelseal_runtime.serving import Serving

READY = Head("GET", "/readyz", {})


def in_a_loop(story: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on an event loop."""

    @wraps(story)
    def run(**given: object) -> None:
        asyncio.run(story(**given))

    return run


class Asked:
    """A question and its answer, if there is one."""

    def __init__(self, application: ProbeApplication, head: Head = READY) -> None:
        self.replies: list[Reply] = []
        self.forget: Callable[[], None] | None = application.answer(head, b"", self.replies.append)

    @property
    def statuses(self) -> list[int]:
        return [reply.status for reply in self.replies]


@pytest.fixture
def serving() -> Serving:
    return Serving()


@pytest.fixture
def application(serving: Serving) -> ProbeApplication:
    return ProbeApplication(serving, Metrics(), lambda: True)


def serve(serving: Serving) -> None:
    model: Any = SimpleNamespace()
    serving.lease.renew(60.0)
    serving.serve(model)


@in_a_loop
async def test_it_is_answered_as_soon_as_the_model_serves(
    serving: Serving, application: ProbeApplication
) -> None:
    asked = Asked(application)
    serving.load()
    application.phase_changed()
    assert asked.statuses == []
    serve(serving)
    application.phase_changed()
    assert asked.statuses == [200]


@in_a_loop
async def test_it_is_told_no_after_a_moment(
    application: ProbeApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "HOLD_SECONDS", 0.01)
    answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    application.answer(READY, b"", answered.set_result)
    assert (await asyncio.wait_for(answered, 10)).status == 503


@in_a_loop
async def test_it_is_told_no_at_once_when_no_model_will_come(
    serving: Serving, application: ProbeApplication
) -> None:
    waiting = Asked(application)
    serving.drain()
    application.phase_changed()
    assert (waiting.statuses, Asked(application).statuses) == ([503], [503])


@in_a_loop
async def test_nobody_is_answered_who_went_away(
    serving: Serving, application: ProbeApplication
) -> None:
    asked = Asked(application)
    assert asked.forget is not None
    asked.forget()
    serve(serving)
    application.phase_changed()
    assert asked.statuses == []


@in_a_loop
async def test_other_questions_never_wait(application: ProbeApplication) -> None:
    paths = ("/livez", "/metrics", "/nothing")
    assert [Asked(application, Head("GET", path, {})).statuses for path in paths] == [
        [200],
        [200],
        [404],
    ]
