"""Watches the two programs of `modelseal serve`, and turns what ends them into one error.

The agent's report says why; a program's exit code says it where it is gone. An outage is waited
for, as in a cluster; everything else ends the command, because somebody is there to mend it.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from modelseal.cli import console, reports
from modelseal.cli.children import Child
from modelseal.contract import Reason
from modelseal.errors import ModelsealError

LOCAL: Final = "127.0.0.1"
POLL_SECONDS: Final = 0.1
WATCH_SECONDS: Final = 0.5
WORDS_SECONDS: Final = 3.0
"""How long the agent may take to say why the runtime ended."""
_WAITED_FOR: Final = frozenset(
    {Reason.KEY_SERVICE_UNAVAILABLE, Reason.KEY_SERVICE_BUSY, Reason.SOURCE_UNAVAILABLE}
)


@dataclass(kw_only=True)
class Supervisor:
    """The two programs, and where the agent's words can be read."""

    agent: Child
    runtime: Child

    @cached_property
    def agent_ports(self) -> Mapping[str, int]:
        """The agent's ports by name; empty where it ended before it listened."""
        return self.agent.ports()

    @cached_property
    def runtime_ports(self) -> Mapping[str, int]:
        """The runtime's ports by name; empty where it ended before it listened."""
        return self.runtime.ports()

    def endpoints(self, host: str) -> dict[str, str]:
        """Return where to ask the model, and where its health can be seen."""
        ports = self.runtime_ports
        return {
            "rest": f"http://{host}:{ports['rest']}",
            "grpc": f"{host}:{ports['grpc']}",
            "health": f"http://{host}:{ports['health']}",
            "report": f"http://{LOCAL}:{self.agent_ports['report']}/report",
        }

    def wait_until_served(self) -> dict[str, Any]:
        """Return the agent's report once the runtime serves; may wait for a key service.

        Raises:
            ModelsealError: a program ended, the key was refused, or the model does not load.

        """
        said: Reason | None = None
        while True:
            self._raise_if_ended("failed to serve the model")
            report = self._report()
            result = reports.reason_of({"reason": report.get("runtime", {}).get("result") or ""})
            if result is Reason.SERVING:
                return report
            if result is not None:
                raise reports.error_for(result, "failed to load the model")
            said = self._tell(reports.reason_of(report), said)
            time.sleep(POLL_SECONDS)

    def watch(self) -> None:
        """Return never: raise what ended the service.

        Raises:
            ModelsealError: the lease ended, or a program did.

        """
        while True:
            self._raise_if_ended("the model was unloaded")
            time.sleep(WATCH_SECONDS)

    def _report(self) -> dict[str, Any]:
        port = self.agent_ports.get("report")
        return reports.read_report(port) if port else {}

    def _tell(self, reason: Reason | None, said: Reason | None) -> Reason | None:
        """Say once what is waited for; raise where waiting is of no use to somebody who watches."""
        if reason is None or reason is said or reports.is_progress(reason):
            return said
        error = reports.error_for(reason, "failed to open the model")
        if reason not in _WAITED_FOR:
            raise error
        console.warn(f"waiting: {reason}")
        if error.hint:
            console.note(f"hint: {error.hint}")
        return reason

    def _raise_if_ended(self, what: str) -> None:
        if self.agent.exit_code is not None:
            raise reports.error_with_code(self.agent.exit_code, what)
        if self.runtime.exit_code is not None:
            raise self._runtimes_end(self.runtime.exit_code, what)

    def _runtimes_end(self, exit_code: int, what: str) -> ModelsealError:
        """Say why the runtime ended: the agent knows, and may be about to say it."""
        deadline = time.monotonic() + WORDS_SECONDS
        while time.monotonic() < deadline:
            if self.agent.exit_code:
                return reports.error_with_code(self.agent.exit_code, what)
            reason = reports.reason_of(self._report())
            if reason is not None and not reports.is_progress(reason):
                return reports.error_for(reason, what)
            time.sleep(POLL_SECONDS)
        return reports.error_with_code(exit_code, f"{what}: the runtime ended")
