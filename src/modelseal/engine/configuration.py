"""OpenVINO properties that a user may set.

A list of what is allowed, not of what is forbidden: any property that makes OpenVINO write
something (model and kernel caches, blobs, dumps) would put the plaintext on a disk. On CPU even the
cache's own encryption callbacks see only the topology, and the weights are written in the clear.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from modelseal.errors import SettingsError, shown

_SWITCH: Final = "true|false|yes|no|TRUE|FALSE|YES|NO"
_NUMBER: Final = "[0-9]{1,9}"
_TYPE: Final = "f32|f16|bf16|i8|u8|dynamic"
_VALUES: Final[Mapping[str, str]] = {
    "ALLOW_AUTO_BATCHING": _SWITCH,
    "AUTO_BATCH_TIMEOUT": _NUMBER,
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": _NUMBER,
    "ENABLE_CPU_PINNING": _SWITCH,
    "ENABLE_HYPER_THREADING": _SWITCH,
    "ENABLE_RUNTIME_FALLBACK": _SWITCH,
    "ENABLE_STARTUP_FALLBACK": _SWITCH,
    "EXECUTION_MODE_HINT": "PERFORMANCE|ACCURACY",
    "INFERENCE_NUM_THREADS": _NUMBER,
    "INFERENCE_PRECISION_HINT": _TYPE,
    "KV_CACHE_PRECISION": _TYPE,
    "MODEL_PRIORITY": "LOW|MEDIUM|HIGH|DEFAULT",
    "NUM_STREAMS": f"{_NUMBER}|AUTO|NUMA",
    "PERFORMANCE_HINT": "LATENCY|THROUGHPUT|CUMULATIVE_THROUGHPUT",
    "PERFORMANCE_HINT_NUM_REQUESTS": _NUMBER,
    "SCHEDULING_CORE_TYPE": "ANY_CORE|PCORE_ONLY|ECORE_ONLY",
}
ALLOWED: Final = frozenset(_VALUES)
PER_DEVICE: Final = ALLOWED - {"PERFORMANCE_HINT"}
"""What may differ by device; the hint belongs to the model, whose workers follow from it."""
KNOWN: Final = ("CPU", "GPU", "NPU", "AUTO", "MULTI", "HETERO", "BATCH")
_MOST: Final = 64
_ASSIGNMENT: Final = re.compile(r"([A-Z]{2,12}(?:\.[A-Za-z0-9_]{1,16})?)\.([A-Z_]{1,64})=(.*)")

Property = str | int | float | bool
ByDevice = Mapping[str, Mapping[str, str]]
"""Properties of single devices, such as `{"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}`."""


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


def read_by_device(words: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read words such as `CPU.NUM_STREAMS=2` into the properties of each device.

    Raises:
        SettingsError: a word has another form, a property or its value is not an allowed one, or
            there are too many or one twice.

    """
    found: dict[str, dict[str, str]] = {}
    for number, word in enumerate(words):
        device, name, value = _assignment(word)
        own = found.setdefault(device, {})
        if name in own or number == _MOST:
            why = "is set twice" if name in own else f"is one more than {_MOST}"
            raise SettingsError(f"failed to read the device properties: {device}.{name} {why}")
        own[name] = value
    return found


def _assignment(word: str) -> tuple[str, str, str]:
    match = _ASSIGNMENT.fullmatch(word)
    if not match:
        raise SettingsError(
            f"failed to read the device properties: {shown(word)} is not DEVICE.PROPERTY=VALUE",
            hint="for example CPU.INFERENCE_PRECISION_HINT=f32 or GPU.0.NUM_STREAMS=2",
        )
    device, name, value = match.groups()
    if device.partition(".")[0] not in KNOWN:
        raise SettingsError(
            f"failed to read the device properties: {device} is not a device",
            hint=f"it may be {', '.join(KNOWN)}, or one of several such as GPU.1",
        )
    if name not in PER_DEVICE:
        raise SettingsError(
            f"failed to read the device properties: {name} of {device} is not an allowed one",
            hint=f"allowed are {', '.join(sorted(PER_DEVICE))}",
        )
    if not re.fullmatch(_VALUES[name], value):
        raise SettingsError(
            f"failed to read the device properties: {device}.{name} is {shown(value)}",
            hint=f"it may be {_told(_VALUES[name])}",
        )
    return device, name, value


def _told(pattern: str) -> str:
    return pattern.replace(_NUMBER, "a number").replace("|", ", ")
