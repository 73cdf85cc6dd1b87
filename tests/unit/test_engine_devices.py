"""The wanted order of devices, reduced to what is there."""

import pytest

from modelseal.engine.devices import available_devices, candidates
from modelseal.errors import SettingsError

THERE = ("CPU", "GPU.0", "GPU.1")


@pytest.mark.parametrize(
    ("wanted", "usable"),
    [
        (["CPU"], ["CPU"]),
        (["GPU", "CPU"], ["GPU", "CPU"]),
        (["GPU.1", "CPU"], ["GPU.1", "CPU"]),
        (["GPU.2", "NPU", "CPU"], ["CPU"]),
        (["NPU"], []),
        (["AUTO"], ["AUTO"]),
        (["AUTO:NPU,GPU,CPU"], ["AUTO:GPU,CPU"]),
        (["AUTO:NPU"], []),
        (["AUTO:-GPU"], ["AUTO:-GPU"]),
        (["HETERO:GPU,CPU"], ["HETERO:GPU,CPU"]),
        (["MULTI:NPU,CPU"], ["MULTI:CPU"]),
        (["BATCH:GPU(4)"], ["BATCH:GPU(4)"]),
        (["BATCH:NPU(4)", "CPU"], ["CPU"]),
        (["GPU:CPU"], []),
    ],
)
def test_only_what_is_there_is_tried_in_the_wanted_order(
    wanted: list[str], usable: list[str]
) -> None:
    found, refused = candidates(wanted, THERE)
    assert list(found) == usable
    assert len(refused) == len(wanted) - len(usable)


@pytest.mark.parametrize(
    "device", ["", "cpu", "CPU:0", "CPU;rm", "AUTO:", "AUTO:GPU,,CPU", "CPU\n"]
)
def test_what_cannot_be_a_device_is_refused(device: str) -> None:
    with pytest.raises(SettingsError, match="is not a device"):
        candidates([device], THERE)


def test_this_machine_has_a_processor() -> None:
    assert "CPU" in available_devices()
