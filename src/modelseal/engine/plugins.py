"""Loading OpenVINO's plugins without leaving a trap in the caller's thread.

OpenVINO's CPU plugin (2026.4) gives the thread that loads it a signal stack of its own, and unmaps
that memory with the plugin, from whatever thread drops the last reference. A signal that then
reaches the first thread kills the process instead of running its handler. A thread that has ended
gets no signals, so plugins are loaded in one.
"""

import threading
from typing import Any


def load_plugins(core: Any) -> tuple[str, ...]:
    """Load every plugin that works here; return the devices, such as `("CPU", "GPU.0")`.

    Raises:
        RuntimeError: OpenVINO could not even look.

    """
    loading = _Loading(core)
    loading.start()
    loading.join()
    if loading.failure is not None:
        raise loading.failure
    return loading.devices


class _Loading(threading.Thread):
    """Asks for the devices, which loads their plugins."""

    def __init__(self, core: Any) -> None:
        super().__init__(name="plugins")
        self._core = core
        self.devices: tuple[str, ...] = ()
        self.failure: RuntimeError | None = None

    def run(self) -> None:
        try:
            self.devices = tuple(str(device) for device in self._core.available_devices)
        except RuntimeError as error:
            self.failure = error
        del self._core
