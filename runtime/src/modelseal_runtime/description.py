"""What the server and its model say about themselves; the same over REST and gRPC."""

from collections.abc import Sequence
from typing import Any, Final

from modelseal.contract import VERSION
from modelseal.engine import TensorSpec
from modelseal_runtime.metrics import Totals
from modelseal_runtime.serving import Phase, Served, Serving

SERVER: Final = "modelseal"
PLATFORM: Final = "OpenVINO"
EXTENSIONS: Final = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository(index)",
    "statistics",
)
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
            "device_properties": " ".join(served.model.properties),
            "devices_refused": "; ".join(
                f"{refusal.device}: {refusal.why}" for refusal in served.model.refused
            ),
            "digest": served.digest,
            "performance_hint": served.choice.hint,
            "performance_hint_why": served.choice.why,
            "workers": served.model.requests,
        },
    }


def config(served: Served) -> dict[str, Any]:
    """Return the model's configuration in the form of Triton's extension.

    The batch dimension is part of the dimensions, as for every model there with a
    `max_batch_size` of 0.
    """
    interface = served.interface
    return {
        "name": served.identity.name,
        "platform": PLATFORM,
        "backend": "openvino",
        "max_batch_size": 0,
        "input": [_configured(spec) for spec in interface.inputs],
        "output": [_configured(spec) for spec in interface.outputs],
    }


def statistics(served: Served, totals: Totals) -> dict[str, Any]:
    """Return what was counted, in the form of Triton's extension; durations are nanoseconds."""
    return {
        "model_stats": [
            {
                "name": served.identity.name,
                "version": served.identity.version,
                "last_inference": round(totals.last * 1000),
                "inference_count": totals.requests,
                "execution_count": totals.executions,
                "inference_stats": {
                    "success": _duration(totals.requests, totals.seconds),
                    "fail": _duration(totals.failures, 0.0),
                    "queue": _duration(totals.executions, totals.queued),
                    "compute_input": _duration(0, 0.0),
                    "compute_infer": _duration(totals.executions, totals.computed),
                    "compute_output": _duration(0, 0.0),
                },
                "batch_stats": [],
            }
        ]
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}


def _configured(spec: TensorSpec) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(spec.shape or ())}


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
