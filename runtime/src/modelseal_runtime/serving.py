"""Whether requests are answered, and with which model; the one state that all threads read."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from modelseal.engine import LoadedModel
from modelseal.errors import shown
from modelseal_runtime.calibration import Choice
from modelseal_runtime.lease import Lease
from modelseal_runtime.protocol.failure import Failure, Kind
from modelseal_runtime.protocol.query import Identity, Interface


class Phase(Enum):
    """Where the runtime is between its start and its end."""

    WAITING = "waiting"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    ENDED = "ended"


_ORDER: Final = list(Phase)
_SERVES: Final = (Phase.READY, Phase.DRAINING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """The one model of this runtime."""

    model: LoadedModel
    identity: Identity
    interface: Interface
    digest: str
    choice: Choice
    """The performance hint, and why it is that one."""
    inline_bytes: int = -1
    """Requests up to this size are shorter than their way to a worker and back."""


class Serving:
    """The phase, the model and the lease; the phase only ever moves forward."""

    def __init__(self, lease: Lease | None = None) -> None:
        self.lease: Final = lease or Lease()
        self._phase = Phase.WAITING
        self._served: Served | None = None
        self._lock: Final = threading.Lock()
        self._watchers: Final[list[Callable[[], None]]] = []

    @property
    def phase(self) -> Phase:
        """The current phase."""
        return self._phase

    @property
    def model(self) -> Served | None:
        """The loaded model, whether or not it may be asked."""
        return self._served

    @property
    def name(self) -> str:
        """The model's name on the wire; empty before there is one."""
        return "" if self._served is None else self._served.identity.name

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self._phase is Phase.READY and self.lease.valid

    @property
    def coming(self) -> bool:
        """Whether a model may still become ready here."""
        return self._phase in (Phase.WAITING, Phase.LOADING)

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` after every change of phase, from any thread."""
        self._watchers.append(changed)

    def load(self) -> None:
        """Note that a model was delivered."""
        self._move(Phase.LOADING)

    def serve(self, served: Served) -> None:
        """Answer requests with this model from now on."""
        self._served = served
        self._move(Phase.READY)

    def drain(self) -> None:
        """Turn unready, and go on answering."""
        self._move(Phase.DRAINING)

    def end(self) -> Served | None:
        """Refuse every request from now on; return the model, which the caller closes."""
        self._move(Phase.ENDED)
        with self._lock:
            served, self._served = self._served, None
        return served

    def find(self, name: str, version: str = "") -> Served:
        """Return the model of that name; an empty version is any.

        Raises:
            Failure: there is none of that name, or it may not be asked now.

        """
        served = self._served
        if served is None or self._phase not in _SERVES or not self.lease.valid:
            raise Failure(Kind.UNAVAILABLE, self._why_not())
        if name != served.identity.name:
            raise Failure(Kind.NOT_FOUND, f"there is no model {shown(name)} here")
        if version not in ("", served.identity.version):
            raise Failure(
                Kind.NOT_FOUND, f"the model {shown(name)} has no version {shown(version)}"
            )
        return served

    def _move(self, phase: Phase) -> None:
        with self._lock:
            if _ORDER.index(phase) <= _ORDER.index(self._phase):
                return
            self._phase = phase
        for changed in self._watchers:
            changed()

    def _why_not(self) -> str:
        if self._phase is Phase.WAITING:
            return "the model has not been delivered yet"
        if self._phase is Phase.LOADING:
            return "the model is being loaded"
        return "the right to serve the model has ended"
