"""From a delivered model to one that serves: every request is warm before anybody may ask."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from modelseal.engine import LoadedModel
from modelseal.errors import ModelLoadFailed
from modelseal_runtime.loading import load
from support import models

MODEL: Any = SimpleNamespace(model="me/model", version="1", digest="sha256:0")


class Memory:
    """A delivered model in buffers of the test."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.files = models.views(contents)

    def user(self) -> Callable[[], None]:
        """Return what a user calls when it is done."""
        return lambda: None


@pytest.mark.parametrize("hint", ["LATENCY", "THROUGHPUT", "AUTO"])
def test_every_request_has_run_once_before_a_model_is_served(
    hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    real = LoadedModel.run_zeros

    def counted(self: LoadedModel) -> None:
        real(self)
        ran.append(id(self))

    monkeypatch.setattr(LoadedModel, "run_zeros", counted)
    memory: Any = Memory(models.perceptron())
    served = load(MODEL, memory, name=None, devices=["CPU"], hint=hint, by_device={})
    assert ran.count(id(served.model)) >= served.model.requests
    served.model.close()


def test_a_model_that_does_not_load_is_refused_and_its_memory_released() -> None:
    released: list[bool] = []
    memory: Any = Memory({"model.xml": b"<net/>", "model.bin": b""})
    memory.user = lambda: lambda: released.append(True)
    with pytest.raises(ModelLoadFailed):
        load(MODEL, memory, name=None, devices=["CPU"], hint="AUTO", by_device={})
    assert released == [True, True], "the keeper and the loader let go"
