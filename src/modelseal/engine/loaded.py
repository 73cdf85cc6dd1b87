"""A model that serves from memory it owns.

OpenVINO keeps no reference to a shared buffer, and its CPU plugin reads that buffer long after
compiling; a wiped buffer under a live model gives wrong numbers without an error. So one object
owns the buffer, the compiled model and its requests, counts who is inside, and lets go of the
buffer only after the last of them has left and OpenVINO's objects are gone.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import numpy as np

from modelseal.engine.checking import by_name, in_order
from modelseal.engine.compiling import Compiled, compile_model, new_core, properties
from modelseal.engine.configuration import ByDevice, Property
from modelseal.engine.devices import Refusal
from modelseal.engine.reading import choose_entry, read_model
from modelseal.engine.slots import Slot
from modelseal.engine.tensors import (
    BYTES,
    DTYPES,
    Array,
    TensorSpec,
    describe,
)
from modelseal.errors import ModelClosed, RequestInvalid, ServingError

Result = TypeVar("Result")
CLOSE_SECONDS: Final = 30.0


@dataclass(kw_only=True)
class _Parts:
    """What must be dropped together: OpenVINO's objects first, then the buffers."""

    compiled: Any
    requests: list[Any]
    files: Mapping[str, memoryview]
    release: Callable[[], None]


class LoadedModel:
    """A compiled model together with the memory that it reads.

    `infer` and `run` may be called from any number of threads; as many run at a time as there are
    requests. `close` may be called at any time, from any thread.
    """

    def __init__(self, parts: _Parts, compiled: Compiled) -> None:
        self.inputs: Final = tuple(describe(port) for port in compiled.model.inputs)
        self.outputs: Final = tuple(describe(port) for port in compiled.model.outputs)
        self._known: Final = by_name(self.inputs)
        self.device: Final = compiled.device
        self.refused: Final[tuple[Refusal, ...]] = compiled.refused
        self.properties: Final[tuple[str, ...]] = compiled.properties
        self.compile_seconds: Final = compiled.seconds
        self.requests: Final = len(parts.requests)
        self.stateful: Final = bool(parts.requests[0].query_state())
        """Whether an inference leaves something behind for the next one."""
        self._parts: _Parts | None = parts
        self._idle: Final[SimpleQueue[Slot]] = SimpleQueue()
        for request in parts.requests:
            self._idle.put(Slot(request, self.inputs, self.outputs))
        self._changed: Final = threading.Condition()
        self._inside = 0
        self._closing = False
        self._released: Final = threading.Event()

    @classmethod
    def load(  # the one way in: every choice is a keyword
        cls,
        files: Mapping[str, memoryview],
        *,
        release: Callable[[], None],
        devices: Sequence[str] = ("CPU",),
        config: Mapping[str, Property] | None = None,
        by_device: ByDevice | None = None,
        hint: str | None = "LATENCY",
        threads: int | None = None,
        requests: int | None = None,
        entry: str | None = None,
        core: Any = None,
    ) -> Self:
        """Read and compile a model out of buffers, without a copy of the weights.

        Args:
            files: the content of the sealed model by path; read-only views suffice.
            release: called once when nothing reads the views any more, also if loading fails.
            devices: wanted devices in order of preference.
            config: OpenVINO properties, out of those that are allowed.
            by_device: properties of single devices, which win over `config`.
            hint: `LATENCY`, `THROUGHPUT`, or `None` for what the configuration says.
            threads: CPU threads to use; `None` leaves it to OpenVINO, which ignores quotas.
            requests: infer requests; `None` takes what OpenVINO calls optimal.
            entry: path of the model, where the files hold several.
            core: an `openvino.Core` of the caller's.

        Raises:
            ModelLoadFailed: OpenVINO does not take the model.
            DeviceUnavailable: no wanted device is there.
            SettingsError: a property, hint or device is not a valid one.

        """
        views = dict(files)
        try:
            wanted = properties(config or {}, hint, threads)
            own = new_core() if core is None else core
            model = read_model(own, views, choose_entry(views, entry))
            compiled = compile_model(own, model, devices, wanted, by_device or {})
            count = requests or _optimal(compiled.model)
            slots = [compiled.model.create_infer_request() for _ in range(count)]
            parts = _Parts(compiled=compiled.model, requests=slots, files=views, release=release)
            return cls(parts, compiled)
        except BaseException:
            model = compiled = slots = parts = None  # type: ignore[assignment] # dropped first
            views.clear()
            release()
            raise

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    @property
    def least_bytes(self) -> int:
        """Bytes of the inputs that `warm_up` sends."""
        return sum(_zeros(spec).nbytes for spec in self.inputs)

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model and return copies of all outputs by name.

        Raises:
            RequestInvalid: an input is missing, unknown, or does not fit.
            ModelClosed: the model was closed.
            ServingError: OpenVINO failed.

        """
        return self.run(inputs, lambda outputs: {name: one.copy() for name, one in outputs.items()})

    @property
    def takes_batches(self) -> bool:
        """Whether the first dimension of every input and output varies, and no state is kept."""
        specs = (*self.inputs, *self.outputs)
        return not self.stateful and all(spec.shape and spec.shape[0] == -1 for spec in specs)

    def fitting(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the arrays in the order of the model's inputs.

        Raises:
            RequestInvalid: an input is missing, unknown, or does not fit.

        """
        return in_order(self.inputs, self._known, inputs)

    def run(
        self, inputs: Mapping[str, Array], consume: Callable[[dict[str, Array]], Result]
    ) -> Result:
        """Run the model and return what `consume` makes of the outputs.

        The arrays that `consume` gets are views of OpenVINO's memory; they must not leave it.
        The errors are those of `infer`.
        """
        arrays = self.fitting(inputs)
        slot = self._enter()
        try:
            return consume(self._infer(slot, arrays))
        finally:
            self._leave(slot)

    def warm_up(self) -> float:
        """Run every request once with zeros, and return the fastest run's seconds.

        A model that does not accept zeros is left cold.
        """
        fastest = float("inf")
        for _ in range(self.requests + 1):
            started = time.perf_counter()
            with contextlib.suppress(ServingError):
                self.run_zeros()
                fastest = min(fastest, time.perf_counter() - started)
        return fastest

    def run_zeros(self) -> None:
        """Run the model with inputs of zeros; the errors are those of `infer`.

        A dimension that varies is taken as one.
        """
        self.run({spec.name: _zeros(spec) for spec in self.inputs}, lambda _: None)

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Refuse new work, wait for what runs, drop OpenVINO's objects, then release the memory.

        Returns:
            Whether the memory was released. Where work still runs after `seconds`, the last of it
            releases the memory when it leaves. Idempotent.

        """
        until = time.monotonic() + seconds
        with self._changed:
            self._closing = True
            self._changed.wait_for(lambda: self._inside == 0, seconds)
            parts = self._take_parts()
        if parts is not None:
            self._drop(parts)
        return self._released.wait(max(0.0, until - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _enter(self) -> Slot:
        with self._changed:
            self._refuse_if_closing()
            self._inside += 1
        slot = self._idle.get()
        if self._closing:
            self._leave(slot)
            self._refuse_if_closing()
        return slot

    def _leave(self, slot: Slot) -> None:
        self._idle.put(slot)
        with self._changed:
            self._inside -= 1
            parts = self._take_parts() if self._closing else None
            self._changed.notify_all()
        if parts is not None:
            self._drop(parts)

    def _take_parts(self) -> _Parts | None:
        """Return the parts to the one caller that has to drop them."""
        if self._inside:
            return None
        parts, self._parts = self._parts, None
        return parts

    def _drop(self, parts: _Parts) -> None:
        while not self._idle.empty():
            self._idle.get().drop()
        parts.requests.clear()
        parts.compiled = None
        parts.files = {}
        parts.release()
        self._released.set()

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise ModelClosed("failed to ask the model: it was closed")

    def _infer(self, slot: Slot, arrays: Sequence[Array]) -> dict[str, Array]:
        results = _start(slot, arrays)
        if isinstance(results, str):
            varies = any(spec.shape is None or -1 in spec.shape for spec in self.inputs)
            kind = RequestInvalid if varies else ServingError
            raise kind(f"failed to run the model: OpenVINO refused the inputs ({results})")
        return {spec.name: array for spec, array in zip(self.outputs, results, strict=True)}


def _start(slot: Slot, arrays: Sequence[Array]) -> Sequence[Array] | str:
    """Run a slot; return its outputs, or the kind of OpenVINO's exception.

    That exception's text names layers of the model, so it goes no further.
    """
    try:
        return slot.run(arrays)
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        return type(error).__name__


def _optimal(compiled: Any) -> int:
    try:
        return max(1, int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))
    except RuntimeError:  # not every plugin knows it
        return 1


def _zeros(spec: TensorSpec) -> Array:
    shape = [max(length, 1) if length == -1 else length for length in spec.shape or ()]
    if spec.datatype == BYTES:
        return np.full(shape, b"", dtype=np.object_)
    return np.zeros(shape, DTYPES[spec.datatype])
