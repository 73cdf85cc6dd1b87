"""Devices as a real kubelet gives them out, by a device plugin whose devices are not there."""

from collections.abc import Iterator

import pytest

from modelseal.contract import Reason
from support.images import Images
from support.kind_asking import answers_right
from support.kind_devices import GPU, NPU, Devices, devices
from support.kind_place import Place

pytestmark = [
    pytest.mark.kind,
    pytest.mark.node("installs a device plugin on the node"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def plugged(module_place: Place, images: Images) -> Iterator[Devices]:
    module_place.provide()
    module_place.put(module_place.seal(), "filetype/1")
    with devices(module_place.kube, images.runtime) as found:
        yield found


def test_a_model_that_wants_an_npu_gets_one_or_says_that_it_does_not_work(
    plugged: Devices, module_place: Place
) -> None:
    module_place.apply(name="npu", device={"preference": ["NPU"]})
    said = module_place.until_reason(Reason.DEVICE_UNAVAILABLE, "npu")
    assert said["message"]
    assert given(module_place, "npu") == {NPU: "1"}
    assert NPU in plugged.allocated()
    assert module_place.never_served("npu")
    module_place.kube.run("delete", "encryptedmodel", "npu")


def test_a_model_that_prefers_a_gpu_is_served_by_the_cpu_where_the_gpu_does_not_work(
    plugged: Devices, module_place: Place
) -> None:
    module_place.apply(name="gpu", device={"preference": ["GPU", "CPU"]})
    found = module_place.until_ready("gpu")
    assert found["status"]["device"]["resourceName"] == GPU
    assert given(module_place, "gpu") == {GPU: "1"}
    assert GPU in plugged.allocated()
    assert answers_right(module_place, "gpu")


def test_a_pod_whose_device_went_away_waits_and_says_so_until_it_is_back(
    plugged: Devices, module_place: Place
) -> None:
    module_place.apply(name="gpu", device={"preference": ["GPU", "CPU"]})
    module_place.until_ready("gpu")
    plugged.pull_out()
    assert answers_right(module_place, "gpu")
    module_place.kube.run("delete", "pod", module_place.pod("gpu"))
    said = module_place.until_reason(Reason.DEVICE_UNAVAILABLE, "gpu")
    assert GPU in said["message"]
    plugged.plug_in()
    module_place.until_ready("gpu")


def given(place: Place, name: str) -> dict[str, str]:
    """Return the devices among the limits of a model's server."""
    (pod,) = place.pods(name)
    (server,) = pod["spec"]["containers"]
    return {key: value for key, value in server["resources"]["limits"].items() if "/" in key}
