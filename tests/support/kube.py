"""A cluster through kubectl: what the tests do is what a reader could type.

Nothing waits for time: `until` asks again until something holds, and says what it saw last when
it does not.
"""

import contextlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from modelseal.contract import API_VERSION, GROUP

Json = dict[str, Any]
Found = TypeVar("Found")
SECONDS: Final = 120.0
_POLL: Final = 0.3
_FORWARD: Final = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)")


class KubectlError(AssertionError):
    """kubectl refused; the text is its own."""


@dataclass(frozen=True, kw_only=True)
class Kube:
    """kubectl with a kubeconfig and a namespace."""

    program: str
    kubeconfig: Path
    namespace: str = "default"

    def at(self, namespace: str) -> "Kube":
        """Return the same for another namespace."""
        return replace(self, namespace=namespace)

    def command(self, *words: str) -> list[str]:
        """Return the whole command of `kubectl words`."""
        where = [f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}"]
        return [self.program, *where, *words]

    def try_run(
        self, *words: str, given: str | bytes | None = None, seconds: float = SECONDS
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run `kubectl words`; the caller looks at how it ended."""
        content = given.encode() if isinstance(given, str) else given
        return subprocess.run(
            self.command(*words), input=content, capture_output=True, timeout=seconds, check=False
        )

    def run(self, *words: str, given: str | bytes | None = None, seconds: float = SECONDS) -> str:
        """Run `kubectl words` and return what it printed; KubectlError if it fails."""
        done = self.try_run(*words, given=given, seconds=seconds)
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(words)}: {done.stderr.decode()[-3000:]}")
        return done.stdout.decode()

    def apply(self, *objects: Json) -> None:
        """Apply objects as a user would."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.run("apply", "-f", "-", given=json.dumps(document))

    def get(self, kind: str, name: str) -> Json:
        """Return an object; empty if it is not there."""
        printed = self.run("get", kind, name, "--ignore-not-found", "-o=json")
        found: Json = json.loads(printed or "{}")
        return found

    def all(self, kind: str, labels: str = "") -> list[Json]:
        """Return the objects of a kind that have these labels."""
        select = [f"--selector={labels}"] if labels else []
        items: list[Json] = json.loads(self.run("get", kind, "-o=json", *select))["items"]
        return items

    def patch(self, kind: str, name: str, change: Mapping[str, object]) -> None:
        """Merge a change into an object."""
        self.run("patch", kind, name, "--type=merge", "-p", json.dumps(change))

    def python(
        self, pod: str, program: str, *words: str, container: str = "", given: bytes = b""
    ) -> str:
        """Run a Python program in a pod, which gets `given` on its standard input."""
        where = [f"--container={container}"] if container else []
        command = ["exec", "-i", pod, *where, "--", "python3", "-c", program, *words]
        return self.run(*command, given=given)

    def until_pods_may_come(self) -> None:
        """Wait for the account of pods that name none, which a controller adds to a namespace."""
        self.until("there is a default account", lambda: self.get("serviceaccount", "default"))

    def until(
        self, what: str, check: Callable[[], Found | None], seconds: float = SECONDS
    ) -> Found:
        """Ask until the check returns something; fail with what `what` should have been.

        An API server that is just starting or busy may refuse a question of the check's.
        """
        end, refused = time.monotonic() + seconds, ""
        while True:
            try:
                found = check()
                if found:
                    return found
            except KubectlError as error:
                refused = f"\nlast refused: {error}"
            if time.monotonic() > end:
                said = f"{what}{refused}\n{self.describe()}"
                raise AssertionError(f"not within {seconds:.0f} s: {said}")
            time.sleep(_POLL)

    def describe(self) -> str:
        """Return what a person would look at first."""
        kinds = f"encryptedmodels.{GROUP},deployments,pods,events"
        done = self.try_run("get", kinds, "-o=wide")
        status = self.try_run("get", f"encryptedmodels.{GROUP}", "-o=jsonpath={.items[*].status}")
        return (done.stdout + done.stderr + status.stdout).decode()

    @contextlib.contextmanager
    def forward(self, target: str, *ports: int) -> Iterator[Mapping[int, int]]:
        """Forward ports of a pod or service for the block; returns the local port of each."""
        command = self.command("port-forward", target, *(f":{port}" for port in ports))
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield _forwarded(process, ports)
        finally:
            process.terminate()
            process.wait(timeout=20)


def _forwarded(process: "subprocess.Popen[str]", ports: Sequence[int]) -> Mapping[int, int]:
    assert process.stdout is not None
    found: dict[int, int] = {}
    said = ""
    for line in process.stdout:
        said += line
        match = _FORWARD.match(line)
        if match:
            # kubectl names the container's port: in the order in which they were asked for
            found[ports[len(found)]] = int(match[1])
        if len(found) == len(ports):
            # it says a line for each connection, and would wait for ever once the pipe is full
            threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
            return found
    process.stdout.close()
    raise KubectlError(f"kubectl port-forward: {said}")


def _drain(stream: IO[str]) -> None:
    with stream:
        stream.read()


def condition(resource: Json, kind: str = "Ready") -> Json:
    """Return a condition of a resource; empty if there is none."""
    conditions = resource.get("status", {}).get("conditions", [])
    found: Json = next((each for each in conditions if each["type"] == kind), {})
    return found


def custom(kind: str, name: str, spec: Json) -> Json:
    """Return one of our resources."""
    return {
        "apiVersion": f"{GROUP}/{API_VERSION}",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
