"""What the server and its model say about themselves; the same over REST and gRPC."""

from collections.abc import Sequence
from typing import Any, Final

from modelseal.contract import VERSION
from modelseal.engine import TensorSpec
from modelseal_runtime.serving import Phase, Served, Serving

SERVER: Final = "modelseal"
PLATFORM: Final = "OpenVINO"
EXTENSIONS: Final = ("binary_tensor_data", "model_repository")
_STATES: Final = {
    Phase.WAITING: ("UNAVAILABLE", "waiting for the model"),
    Phase.LOADING: ("LOADING", ""),
    Phase.READY: ("READY", ""),
    Phase.DRAINING: ("UNLOADING", "the server is going away"),
    Phase.ENDED: ("UNAVAILABLE", "the right to serve the model has ended"),
}


def server() -> dict[str, Any]:
    """Return the server's metadata."""
    return {"name": SERVER, "version": VERSION, "extensions": list(EXTENSIONS)}


def model(served: Served) -> dict[str, Any]:
    """Return the model's metadata."""
    interface = served.interface
    return {
        "name": served.identity.name,
        "versions": [served.identity.version],
        "platform": PLATFORM,
        "inputs": _tensors(interface.inputs),
        "outputs": _tensors(interface.outputs),
        "parameters": {
            "device": served.model.device,
            "devices_refused": "; ".join(
                f"{refusal.device}: {refusal.why}" for refusal in served.model.refused
            ),
            "digest": served.digest,
            "performance_hint": served.hint,
            "workers": served.model.requests,
        },
    }


def index(serving: Serving, *, ready_only: bool) -> list[dict[str, Any]]:
    """Return the repository index: the one model, once its name is known."""
    served = serving.model
    if served is None or (ready_only and not serving.ready):
        return []
    state, reason = _STATES[serving.phase]
    identity = served.identity
    return [{"name": identity.name, "version": identity.version, "state": state, "reason": reason}]


def _tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [
        {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape or ())}
        for spec in specs
    ]
