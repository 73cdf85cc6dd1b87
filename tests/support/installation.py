"""What the chart installs, as helm renders it: CRDs, rights, admission policies and settings.

The operator of these tests is a process and no pod; everything else about it is the chart's.
"""

import functools
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from support.binaries import binary

Json = dict[str, Any]
CHART: Final = Path(__file__).resolve().parents[2] / "charts" / "modelseal"
NAMESPACE: Final = "modelseal-system"
RELEASE: Final = "modelseal"
_SETTING: Final = "MODELSEAL_OPERATOR_"
_NOT_HERE: Final = frozenset({"Deployment", "Pod", "Job", "NetworkPolicy", "PodDisruptionBudget"})


@functools.cache
def rendered(*values: str) -> tuple[Json, ...]:
    """Return the chart's objects; `values` are settings as `--set` takes them."""
    options = [word for value in ("devices.enabled=true", *values) for word in ("--set", value)]
    command = [str(binary("helm")), "template", RELEASE, str(CHART), "--namespace", NAMESPACE]
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    return tuple(raw for raw in yaml.safe_load_all(done.stdout) if raw)


def objects(*values: str) -> list[Json]:
    """Return what is installed, in an order that works, without what would run as pods."""
    kept = [raw for raw in rendered(*values) if raw["kind"] not in _NOT_HERE]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    first = ("CustomResourceDefinition", "ServiceAccount")
    return [namespace, *sorted(kept, key=lambda raw: raw["kind"] not in first)]


def account() -> str:
    """Return the name of the operator's service account."""
    (found,) = (raw for raw in rendered() if raw["kind"] == "ServiceAccount")
    return str(found["metadata"]["name"])


def settings(*values: str) -> dict[str, str]:
    """Return the settings that the chart gives the operator, without their prefix."""
    (found,) = (raw for raw in rendered(*values) if raw["kind"] == "Deployment")
    (container,) = found["spec"]["template"]["spec"]["containers"]
    plain = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    return {name.removeprefix(_SETTING): value for name, value in plain.items()}


def rights() -> set[tuple[str, str, str]]:
    """Return every right of the operator as (group, resource, verb)."""
    bindings = [raw for raw in rendered() if raw["kind"] in ("ClusterRoleBinding", "RoleBinding")]
    bound = {(raw["roleRef"]["kind"], raw["roleRef"]["name"]) for raw in bindings}
    return {
        (group, resource, verb)
        for raw in rendered()
        if (raw["kind"], raw["metadata"]["name"]) in bound
        for rule in raw["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
