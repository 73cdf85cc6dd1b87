"""The operator's own settings, from its environment; the chart writes them."""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from modelseal.errors import SettingsError, shown

PREFIX: Final = "MODELSEAL_OPERATOR_"
_LABELS: Final = re.compile(r"[^=,]{1,317}=[^=,]{0,63}(?:,[^=,]{1,317}=[^=,]{0,63}){0,7}")


@dataclass(frozen=True, kw_only=True)
class PodSettings:
    """What is the same in the pods of every model."""

    agent_image: str
    runtime_image: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    gpu_resources: tuple[str, ...] = ("gpu.intel.com/xe", "gpu.intel.com/i915")
    npu_resources: tuple[str, ...] = ("npu.intel.com/accel",)
    device_groups: tuple[int, ...] = ()
    log_level: str = "info"
    operator_namespace: str = "modelseal-system"
    operator_labels: tuple[tuple[str, str], ...] = (
        ("app.kubernetes.io/name", "modelseal-operator"),
    )
    scraper_labels: tuple[tuple[str, str], ...] = ()
    """Labels of the namespace of whoever scrapes metrics; nobody if empty."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that the operator process is told; times in seconds."""

    pods: PodSettings
    namespaces: tuple[str, ...] = ()
    """Namespaces to watch; all if empty."""
    namespace: str = "modelseal-system"
    identity: str = "modelseal-operator"
    lease_name: str = "modelseal-operator"
    lease_seconds: int = 15
    concurrency: int = 3
    """How many models roll at once for a change that is not their own."""
    workers: int = 16
    resync: float = 600.0
    report_interval: float = 60.0
    devices: bool = False
    port: int = 8080
    kubeconfig: str | None = None
    log_json: bool = True


def settings_from_env(environ: Mapping[str, str]) -> Settings:
    """Read the settings; SettingsError names the variable that is wrong."""
    read = _Reader({k[len(PREFIX) :]: v for k, v in environ.items() if k.startswith(PREFIX)})
    namespace = read.text("NAMESPACE", "modelseal-system")
    settings = Settings(
        pods=_pod_settings(read, namespace),
        namespaces=read.words("WATCH_NAMESPACES"),
        namespace=namespace,
        identity=read.text("IDENTITY", socket.gethostname()),
        lease_name=read.text("LEASE_NAME", "modelseal-operator"),
        lease_seconds=read.number("LEASE_SECONDS", 15, low=10, high=300),
        concurrency=read.number("ROLLOUT_CONCURRENCY", 3, low=1, high=1000),
        workers=read.number("WORKERS", 16, low=1, high=256),
        resync=read.number("RESYNC_SECONDS", 600, low=10, high=86400),
        report_interval=read.number("REPORT_SECONDS", 60, low=5, high=3600),
        devices=read.choice("DEVICES", ("false", "true"), "false") == "true",
        port=read.number("PORT", 8080, low=0, high=65535),
        kubeconfig=read.text("KUBECONFIG", "") or None,
        log_json=read.choice("LOG_FORMAT", ("json", "plain"), "json") == "json",
    )
    read.finish()
    return settings


def _pod_settings(read: "_Reader", namespace: str) -> PodSettings:
    base = PodSettings(
        agent_image=read.text("AGENT_IMAGE"), runtime_image=read.text("RUNTIME_IMAGE")
    )
    groups = read.words("DEVICE_GROUPS")
    if not all(re.fullmatch("[0-9]{1,10}", group) for group in groups):
        raise read.wrong("DEVICE_GROUPS", "group numbers, separated by commas")
    return PodSettings(
        agent_image=base.agent_image,
        runtime_image=base.runtime_image,
        pull_policy=read.choice("PULL_POLICY", ("Always", "IfNotPresent", "Never"), "IfNotPresent"),
        pull_secrets=read.words("PULL_SECRETS"),
        gpu_resources=read.words("GPU_RESOURCES") or base.gpu_resources,
        npu_resources=read.words("NPU_RESOURCES") or base.npu_resources,
        device_groups=tuple(int(group) for group in groups),
        log_level=read.choice("POD_LOG_LEVEL", ("debug", "info", "warning", "error"), "info"),
        operator_namespace=namespace,
        operator_labels=read.labels("POD_LABELS") or base.operator_labels,
        scraper_labels=read.labels("SCRAPER_NAMESPACE_LABELS"),
    )


class _Reader:
    """Takes settings out of a mapping, so that at the end nothing may be left."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def wrong(self, name: str, expected: str) -> SettingsError:
        return SettingsError(f"{PREFIX}{name} must be {expected}")

    def text(self, name: str, default: str | None = None) -> str:
        value = self._values.pop(name, default)
        if value is None or (value == "" and default is None):
            raise SettingsError(f"{PREFIX}{name} is not set")
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.text(name, default)
        if value not in choices:
            raise self.wrong(name, f"one of {', '.join(choices)}, not {shown(value)}")
        return value

    def number(self, name: str, default: int, *, low: int, high: int) -> int:
        value = self.text(name, str(default))
        if not re.fullmatch("[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise self.wrong(name, f"a whole number from {low} to {high}, not {shown(value)}")
        return int(value)

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in self.text(name, "").split(",") if word.strip())

    def labels(self, name: str) -> tuple[tuple[str, str], ...]:
        value = self.text(name, "")
        if value and not _LABELS.fullmatch(value):
            raise self.wrong(name, f"labels like a=b,c=d, not {shown(value)}")
        pairs = [word.partition("=") for word in value.split(",") if word]
        return tuple(sorted((key, label) for key, _, label in pairs))

    def finish(self) -> None:
        if self._values:
            unknown = ", ".join(f"{PREFIX}{shown(name)}" for name in sorted(self._values))
            raise SettingsError(f"unknown settings: {unknown}")
