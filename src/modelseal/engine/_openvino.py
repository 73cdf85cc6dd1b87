"""The one place that imports OpenVINO, and keeps its telemetry out.

`import openvino` (2026.4) sends an event to a web analytics service when the package
`openvino_telemetry` is installed and nobody has declined: it looks up a host name, forks a process
and writes files to the home directory. A process that is about to hold a plaintext model does none
of that, so the package is hidden for the length of the import; OpenVINO then uses its own stub, as
it does where the package is not installed. An application that imported OpenVINO before is left as
it is.
"""

import sys
from types import ModuleType
from typing import Any, Final

_TELEMETRY: Final = "openvino_telemetry"


def _import_quietly() -> ModuleType:
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_telemetry(name)}
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # the documented way to block it
    try:
        import openvino  # noqa: PLC0415 -- only while it is hidden
    finally:
        del sys.modules[_TELEMETRY]
        sys.modules.update(hidden)
    module: ModuleType = openvino
    return module


def _is_telemetry(name: str) -> bool:
    return name.partition(".")[0] == _TELEMETRY


ov: Final[Any] = _import_quietly()
