"""A cluster through the user's own kubectl: his kubeconfig, his rights, nothing installed here."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from modelseal.cli import console
from modelseal.errors import ServingError, SettingsError

Json = dict[str, Any]
Found = TypeVar("Found")
SECONDS: Final = 300.0
_LONGEST: Final = 1800.0
"""Seconds for one command; a search of a large node takes its time."""
_POLL: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Kubectl:
    """kubectl, for one namespace."""

    program: str
    namespace: str

    def at(self, namespace: str) -> "Kubectl":
        """Return the same for another namespace."""
        return replace(self, namespace=namespace)

    def run(self, *words: str, given: bytes = b"", said: bool = True) -> bytes:
        """Run `kubectl words` and return what it printed.

        Raises:
            ServingError: it failed; with its own first words, if they may be `said`.

        """
        command = [self.program, f"--namespace={self.namespace}", *words]
        try:
            done = subprocess.run(  # noqa: S603 - the user names it
                command, input=given, capture_output=True, timeout=_LONGEST, check=False
            )
        except FileNotFoundError:
            raise SettingsError(
                "failed to use the cluster: there is no kubectl",
                hint="install kubectl, or name it with --kubectl",
            ) from None
        except subprocess.TimeoutExpired:
            raise ServingError(f"failed to use the cluster: kubectl {words[0]} hangs") from None
        if done.returncode:
            why = console.printable(done.stderr.decode(errors="replace").strip()[-500:])
            raise ServingError(
                f"failed to use the cluster: kubectl {words[0]} ended with {done.returncode}"
                + (f": {why}" if said else "")
            )
        return done.stdout

    def apply(self, *objects: Json) -> None:
        """Apply objects."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.run("apply", "-f", "-", given=json.dumps(document).encode())

    def get(self, kind: str, *words: str) -> Json:
        """Return an object, or a list; empty if a named one is not there."""
        printed = self.run("get", kind, *words, "--ignore-not-found", "-o=json")
        found: Json = json.loads(printed or b"{}")
        return found

    def delete(self, kind: str, name: str) -> None:
        """Delete an object, if it is there, and wait until it is gone."""
        self.run("delete", kind, name, "--ignore-not-found", "--timeout=180s")

    def python(self, pod: str, *words: str, given: bytes = b"") -> bytes:
        """Run the Python of a pod's image."""
        return self.run("exec", "-i", pod, "--", "python3", *words, given=given)

    def evict(self, pod: str) -> None:
        """Evict a pod, as draining its node would."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.namespace},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        self.run("create", f"--raw={path}", "-f", "-", given=json.dumps(body).encode())


def until(what: str, check: Callable[[], Found | None], say: Callable[[], str]) -> Found:
    """Ask again and again until there is an answer.

    Raises:
        ServingError: there is none in time; with what `say` returns.

    """
    end = time.monotonic() + SECONDS
    while not (found := check()):
        if time.monotonic() > end:
            raise ServingError(f"failed to use the cluster: {what} in {SECONDS:g} s; {say()}")
        time.sleep(_POLL)
    return found


def condition(resource: Mapping[str, Any], kind: str = "Ready") -> Json:
    """Return a condition of a resource; empty if there is none."""
    conditions: list[Json] = resource.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


def agent_image(kube: Kubectl) -> str:
    """Return the agent's image as the installed operator names it: it has a Python for programs.

    Raises:
        SettingsError: no operator is found.

    """
    found = kube.get("deployments", "-A", "-l", "app.kubernetes.io/part-of=modelseal")
    for deployment in found.get("items", []):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            for variable in container.get("env", []):
                if variable["name"].endswith("AGENT_IMAGE"):
                    return str(variable["value"])
    raise SettingsError(
        "failed to use the cluster: no operator of modelseal is found",
        hint="install the chart, or name an image that has python3 with --image",
    )
