"""OpenVINO properties that a user may set.

A list of what is allowed, not of what is forbidden: any property that makes OpenVINO write
something (model and kernel caches, blobs, dumps) would put the plaintext on a disk. On CPU even the
cache's own encryption callbacks see only the topology, and the weights are written in the clear.
"""

from collections.abc import Mapping
from typing import Final

from modelseal.errors import SettingsError, shown

ALLOWED: Final = frozenset(
    {
        "ALLOW_AUTO_BATCHING",
        "AUTO_BATCH_TIMEOUT",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE",
        "ENABLE_CPU_PINNING",
        "ENABLE_HYPER_THREADING",
        "ENABLE_RUNTIME_FALLBACK",
        "ENABLE_STARTUP_FALLBACK",
        "EXECUTION_MODE_HINT",
        "INFERENCE_NUM_THREADS",
        "INFERENCE_PRECISION_HINT",
        "KV_CACHE_PRECISION",
        "MODEL_PRIORITY",
        "NUM_STREAMS",
        "PERFORMANCE_HINT",
        "PERFORMANCE_HINT_NUM_REQUESTS",
        "SCHEDULING_CORE_TYPE",
    }
)

Property = str | int | float | bool


def checked(config: Mapping[str, Property]) -> dict[str, Property]:
    """Return the properties, all of them allowed.

    Raises:
        SettingsError: one is not.

    """
    for name in config:
        if name not in ALLOWED:
            raise SettingsError(
                f"failed to accept the OpenVINO property {shown(name)}: it is not an allowed one",
                hint=f"allowed are {', '.join(sorted(ALLOWED))}; caches would write plaintext",
            )
    return dict(config)
