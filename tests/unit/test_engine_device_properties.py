"""Properties of single devices: read strictly, given to the device that they are for."""

import numpy as np
import pytest

from modelseal.engine import LoadedModel
from modelseal.engine.compiling import for_device
from modelseal.engine.configuration import PER_DEVICE, Property, read_by_device
from modelseal.errors import ModelLoadFailed, SettingsError
from support import models

GENERAL: dict[str, Property] = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_NUM_THREADS": 3,
    "ENABLE_CPU_PINNING": False,
}
OWN = {"CPU": {"NUM_STREAMS": "1"}, "GPU": {"NUM_STREAMS": "2"}, "GPU.1": {"NUM_STREAMS": "4"}}
THREADS: dict[str, Property] = {"INFERENCE_NUM_THREADS": 3, "ENABLE_CPU_PINNING": False}


def test_words_become_the_properties_of_each_device() -> None:
    words = [
        "CPU.NUM_STREAMS=2",
        "CPU.ENABLE_CPU_PINNING=true",
        "GPU.0.INFERENCE_PRECISION_HINT=f16",
    ]
    assert read_by_device(words) == {
        "CPU": {"NUM_STREAMS": "2", "ENABLE_CPU_PINNING": "true"},
        "GPU.0": {"INFERENCE_PRECISION_HINT": "f16"},
    }
    assert read_by_device([]) == {}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["NUM_STREAMS=2"], "is not DEVICE.PROPERTY=VALUE"),
        (["CPU.NUM_STREAMS"], "is not DEVICE.PROPERTY=VALUE"),
        (["cpu.NUM_STREAMS=2"], "is not DEVICE.PROPERTY=VALUE"),
        (["CUP.NUM_STREAMS=2"], "CUP is not a device"),
        (["CPU.CACHE_DIR=/tmp"], "CACHE_DIR of CPU is not an allowed one"),
        (["GPU.CONFIG_FILE=/tmp/x"], "CONFIG_FILE of GPU is not an allowed one"),
        (["CPU.PERFORMANCE_HINT=LATENCY"], "PERFORMANCE_HINT of CPU is not an allowed one"),
        (["CPU.NUM_STREAMS=many"], "CPU.NUM_STREAMS is"),
        (["CPU.NUM_STREAMS=-1"], "CPU.NUM_STREAMS is"),
        (["CPU.INFERENCE_PRECISION_HINT=f32;CACHE_DIR=x"], "CPU.INFERENCE_PRECISION_HINT is"),
        (["CPU.NUM_STREAMS=1", "CPU.NUM_STREAMS=2"], "is set twice"),
        ([f"GPU.{number}.NUM_STREAMS=1" for number in range(65)], "is one more than 64"),
    ],
)  # fmt: skip
def test_a_property_that_is_not_allowed_is_named(words: list[str], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        read_by_device(words)


def test_nothing_that_writes_files_or_reads_paths_is_allowed() -> None:
    assert not [name for name in PER_DEVICE if {"DIR", "PATH", "FILE", "LOG"} & {*name.split("_")}]
    assert not [name for name in PER_DEVICE if name.startswith("CACHE")]


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("CPU", {**GENERAL, "NUM_STREAMS": "1"}),
        ("GPU", {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "2"}),
        ("GPU.0", {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "2"}),
        ("GPU.1", {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "4"}),
        ("NPU", {"PERFORMANCE_HINT": "LATENCY"}),
        ("BATCH:CPU(4)", {**GENERAL, "NUM_STREAMS": "1"}),
    ],
)
def test_a_device_is_told_what_is_for_it(device: str, told: dict[str, object]) -> None:
    assert for_device(device, GENERAL, OWN) == told


@pytest.mark.parametrize("device", ["AUTO", "AUTO:GPU,CPU", "HETERO:GPU,CPU", "MULTI:GPU,CPU"])
def test_a_device_that_stands_for_others_hands_each_its_own(device: str) -> None:
    assert for_device(device, GENERAL, OWN) == {
        "PERFORMANCE_HINT": "LATENCY",
        "DEVICE_PROPERTIES": {**OWN, "CPU": {**THREADS, "NUM_STREAMS": "1"}},
    }


@pytest.mark.parametrize("device", ["CPU", "AUTO:CPU", "HETERO:CPU", "MULTI:CPU"])
def test_openvino_computes_as_it_was_told(device: str) -> None:
    by_device = {"CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}}
    with LoadedModel.load(
        models.views(models.perceptron()),
        release=lambda: None,
        devices=[device],
        by_device=by_device,
        threads=2,
    ) as loaded:
        compiled = loaded._parts.compiled  # type: ignore[union-attr]
        found = compiled.get_property("DEVICE_PROPERTIES")["CPU"] if ":" in device else {
            name: compiled.get_property(name) for name in by_device["CPU"]
        }  # fmt: skip
        assert found["INFERENCE_NUM_THREADS"] == 1
        assert found["INFERENCE_PRECISION_HINT"].to_dtype() == np.float32
        prefix = "CPU." if ":" in device else ""
        assert f"{prefix}INFERENCE_PRECISION_HINT=f32" in loaded.properties


@pytest.mark.parametrize(("device", "prefix"), [("CPU", ""), ("AUTO:CPU", "CPU.")])
def test_a_property_that_the_device_does_not_take_is_named(device: str, prefix: str) -> None:
    with pytest.raises(
        ModelLoadFailed, match=f"{device}: it does not take {prefix}INFERENCE_PRECISION_HINT=i8$"
    ):
        LoadedModel.load(
            models.views(models.perceptron()),
            release=lambda: None,
            devices=[device],
            by_device={"CPU": {"INFERENCE_PRECISION_HINT": "i8", "NUM_STREAMS": "1"}},
        )


def test_a_quota_of_processors_holds_behind_a_device_that_stands_for_others() -> None:
    with LoadedModel.load(
        models.views(models.perceptron()), release=lambda: None, devices=["AUTO:CPU"], threads=1
    ) as loaded:
        compiled = loaded._parts.compiled  # type: ignore[union-attr]
        assert compiled.get_property("DEVICE_PROPERTIES")["CPU"]["INFERENCE_NUM_THREADS"] == 1
