"""A request as the model sees it, whichever way it came."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from modelseal.engine import Array, TensorSpec
from modelseal.errors import shown
from modelseal_runtime.protocol.failure import invalid

MAX_ID: Final = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """An output that is asked for, under the name that was used, and whether as raw bytes."""

    spec: TensorSpec
    name: str
    binary: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Inputs by name, and the outputs to send back in their order."""

    id: str
    inputs: Mapping[str, Array]
    outputs: Sequence[Wanted]


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What a model is called on the wire."""

    name: str
    version: str


class Interface:
    """A model's inputs and outputs, found by any of their names."""

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self.inputs: Final = tuple(inputs)
        self.outputs: Final = tuple(outputs)
        self._outputs: Final = {alias: spec for spec in outputs for alias in spec.aliases} | {
            spec.name: spec for spec in outputs
        }

    def wanted(self, name: str, *, binary: bool) -> Wanted:
        """Return the output of that name.

        Raises:
            Failure: the model has none.

        """
        spec = self._outputs.get(name)
        if spec is None:
            raise invalid(
                f"the model has no output {shown(name)}; its outputs are "
                f"{', '.join(shown(one.name) for one in self.outputs)}"
            )
        return Wanted(spec=spec, name=name, binary=binary)

    def all_outputs(self, *, binary: bool) -> tuple[Wanted, ...]:
        """Return every output, in the model's order."""
        return tuple(Wanted(spec=spec, name=spec.name, binary=binary) for spec in self.outputs)
