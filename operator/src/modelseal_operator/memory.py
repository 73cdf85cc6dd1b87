"""How much memory a pod's two containers need (docs/operations.md, "Sizing").

The plaintext is charged to the agent, which touches it first; the runtime is charged for what
OpenVINO repacks and for the requests it holds. Request equals limit, so that nothing is swapped
out or evicted for being over its request.
"""

from dataclasses import dataclass
from typing import Final

from modelseal_operator.quantities import round_up
from modelseal_operator.resource import EncryptedModel

AGENT_BASE: Final = 128 << 20
"""Interpreter, cryptography and key client: 60 to 90 MiB resident, and some air."""
FETCH_WINDOW: Final = 64 << 20
"""Ciphertext in flight: a few segments for each worker thread."""
RUNTIME_BASE: Final = 384 << 20
"""Interpreter, OpenVINO and the servers: about 250 MiB resident, and some air."""


@dataclass(frozen=True, kw_only=True)
class PodMemory:
    """Memory limits in bytes; requests are the same."""

    agent: int
    runtime: int


def pod_memory(model: EncryptedModel) -> PodMemory:
    """Return the limits of a model's containers."""
    serving = model.serving
    joined = 2 if serving.batch_rows > 1 else 1  # a batch is a copy of its requests' inputs
    requests = joined * serving.max_body * serving.queue
    return PodMemory(
        agent=round_up(model.model_size + FETCH_WINDOW + AGENT_BASE),
        runtime=round_up(_compiled(model) + RUNTIME_BASE + requests),
    )


def _compiled(model: EncryptedModel) -> int:
    """Return what OpenVINO repacks; AUTO and MULTI hold it for each device, HETERO splits it."""
    return model.compiled_size * (2 if model.combine in ("AUTO", "MULTI") else 1)
