"""Devices of a real kubelet that are not there: what a device plugin advertises."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.kind_given import MARK
from support.kind_workloads import script_of, scripted
from support.kube import Json, Kube

NAMESPACE: Final = "test-devices"
NPU: Final = "npu.intel.com/accel"
GPU: Final = "gpu.intel.com/i915"
PLUGIN: Final = "plugin"
_FOLDER: Final = "/var/lib/kubelet/device-plugins"
_SCRIPT: Final = Path(__file__).with_name("pod_device_plugin.py")


@dataclass(frozen=True, kw_only=True)
class Devices:
    """One NPU and one GPU, as long as the plugin runs."""

    kube: Kube
    image: str

    def plug_in(self) -> None:
        """Start the plugin, and wait until the node offers the devices."""
        self.kube.until_pods_may_come()
        self.kube.apply(script_of(PLUGIN, _SCRIPT), _plugin(self.image))
        self.kube.until("the node offers the devices", lambda: self.offered() == {NPU, GPU})

    def pull_out(self) -> None:
        """End the plugin, and wait until the node offers nothing of it."""
        self.kube.run("delete", "pod", PLUGIN, "--ignore-not-found")
        self.kube.until("the node offers no device", lambda: not self.offered())

    def offered(self) -> set[str]:
        """Return which of the devices can be allocated."""
        found = [node["status"]["allocatable"] for node in self.kube.all("nodes")]
        return {name for each in found for name in (NPU, GPU) if each.get(name, "0") != "0"}

    def allocated(self) -> list[str]:
        """Return what the kubelet asked for, in its order."""
        said = self.kube.run("logs", PLUGIN).splitlines()
        return [line.removeprefix("allocated ") for line in said]


@contextlib.contextmanager
def devices(kube: Kube, image: str) -> Iterator[Devices]:
    """Give the cluster's nodes devices for the block.

    Args:
        kube: the cluster.
        image: an image that has Python and gRPC.

    """
    found = Devices(kube=kube.at(NAMESPACE), image=image)
    # the plugin is root and mounts a folder of the node: as every device plugin
    metadata = {"name": NAMESPACE, "labels": MARK}
    found.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    try:
        found.plug_in()
        yield found
    finally:
        found.kube.run("delete", "namespace", NAMESPACE, "--wait=false")


def _plugin(image: str) -> Json:
    pod = scripted(PLUGIN, image, _SCRIPT, NPU, GPU)
    (container,) = pod["spec"]["containers"]
    container["securityContext"] = {"runAsUser": 0, "runAsNonRoot": False}
    container["volumeMounts"].append({"name": "plugins", "mountPath": _FOLDER})
    pod["spec"]["volumes"].append({"name": "plugins", "hostPath": {"path": _FOLDER}})
    return pod
