"""Loading from buffers: the same numbers as OpenVINO's own loading, and every refusal."""

import mmap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelseal.engine import DTYPES, LoadedModel, convert_onnx
from modelseal.engine._openvino import ov
from modelseal.engine.tensors import Array
from modelseal.errors import (
    DeviceUnavailable,
    ModelClosed,
    ModelLoadFailed,
    ModelsealError,
    RequestInvalid,
    SettingsError,
)
from support import models

KINDS = {
    "boolean": "BOOL",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "f16": "FP16",
    "f32": "FP32",
    "f64": "FP64",
    "bf16": "BF16",
}
MAGIKA = models.magika_onnx()


def nothing() -> None:
    """Release nothing."""


def load(contents: models.Files, **choices: Any) -> LoadedModel:
    """Load files that stay alive anyway."""
    choices.setdefault("release", nothing)
    return LoadedModel.load(models.views(contents), **choices)


def plain_result(path: Path, rows: Array) -> Array:
    """Return what OpenVINO itself answers, loading the plain file."""
    compiled = models.core().compile_model(path, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    result: Array = compiled(rows)[0]
    return result


def test_a_real_onnx_model_answers_bit_for_bit_as_openvino_itself() -> None:
    rows = models.magika_input(rows=5)
    with load({"model.onnx": MAGIKA.read_bytes()}) as loaded:
        answer = loaded.infer({"bytes": rows})["target_label"]
    np.testing.assert_array_equal(answer, plain_result(MAGIKA, rows))


def test_a_converted_model_answers_bit_for_bit_as_the_one_it_came_from() -> None:
    rows = models.magika_input(rows=5)
    with convert_onnx(MAGIKA) as converted, converted.open_weights() as weights:
        contents = {"model.xml": converted.xml, "model.bin": weights.read()}
    with load(contents) as loaded:
        answer = loaded.infer({"bytes": rows})["target_label"]
    np.testing.assert_array_equal(answer, plain_result(MAGIKA, rows))


def test_read_only_memory_suffices() -> None:
    contents = models.perceptron()
    weights = contents["model.bin"]
    shared = mmap.mmap(-1, len(weights))
    shared.write(weights)
    with memoryview(shared) as view:
        files = {"model.xml": memoryview(contents["model.xml"]), "model.bin": view.toreadonly()}
        with LoadedModel.load(files, release=nothing) as loaded:
            answer = loaded.infer({"x": np.ones((1, 64), np.float32)})["y"]
    with load(contents) as plain:
        expected = plain.infer({"x": np.ones((1, 64), np.float32)})["y"]
    np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize(("kind", "datatype"), KINDS.items())
@pytest.mark.parametrize("shape", [(2, 3), (1, 3), (0, 3)])
def test_every_type_keeps_every_bit(kind: str, datatype: str, shape: tuple[int, ...]) -> None:
    octets = np.arange(1, np.prod(shape) * DTYPES[datatype].itemsize + 1, dtype=np.uint8) % 2
    array = octets.view(DTYPES[datatype]).reshape(shape)
    if datatype in ("FP64", "INT64", "UINT64", "UINT32"):  # the CPU plugin computes in 32 bits
        array = np.arange(np.prod(shape)).astype(DTYPES[datatype]).reshape(shape)
    with load(models.joined(kind, [-1, 3])) as loaded:
        assert loaded.inputs[0].datatype == datatype
        answer = loaded.infer({"x": array})["y"]
    np.testing.assert_array_equal(answer, np.concatenate([array, array]))
    assert answer.dtype == DTYPES[datatype]


def test_strings_pass_as_bytes() -> None:
    words = np.array([b"", b"caf\xc3\xa9", b"\xff\xfe", b"in\0side"], np.object_)
    with load(models.joined("string", [-1])) as loaded:
        answer = loaded.infer({"x": words})["y"]
    assert answer.tolist() == [*words, *words]


@pytest.mark.parametrize("kind", ["f32", "boolean", "bf16", "string"])
def test_a_tensor_without_elements_is_answered_by_one(kind: str) -> None:
    with load(models.joined(kind, [-1, 3])) as loaded:
        empty = np.zeros((0, 3), DTYPES[loaded.inputs[0].datatype])
        assert loaded.infer({"x": empty})["y"].shape == (0, 3)
        one = np.full((1, 3), b"a" if kind == "string" else 1, empty.dtype)
        assert loaded.infer({"x": one})["y"].tolist() == [*one.tolist(), *one.tolist()]


def test_inputs_of_changing_shapes_are_each_answered() -> None:
    with load(models.joined("f32", [-1])) as loaded:
        for length in (3, 3, 400_000, 3, 1, 0, 400_000, 2):
            x = np.arange(length, dtype=np.float32)
            np.testing.assert_array_equal(loaded.infer({"x": x})["y"], [*x, *x])


def test_a_scalar_is_an_array_of_no_dimensions() -> None:
    with load(models.joined("f32", [])) as loaded:
        assert loaded.inputs[0].shape == ()
        assert loaded.infer({"x": np.array(2.5, np.float32)})["y"].tolist() == [2.5]


def test_a_read_only_or_unaligned_input_is_taken_too() -> None:
    octets = b"\0" + np.arange(6, dtype=np.float32).tobytes()
    unaligned = np.frombuffer(memoryview(octets)[1:], np.float32).reshape(2, 3)
    assert not unaligned.flags.writeable
    with load(models.joined("f32", [-1, 3])) as loaded:
        answer = loaded.infer({"x": unaligned})["y"]
    np.testing.assert_array_equal(answer, np.concatenate([unaligned, unaligned]))


def test_an_input_answers_to_each_of_its_names() -> None:
    array = np.ones((1, 3), np.float32)
    with load(models.joined("f32", [-1, 3])) as loaded:
        by_name = loaded.infer({loaded.inputs[0].name: array})
        by_alias = loaded.infer({next(iter(loaded.inputs[0].aliases)): array})
    np.testing.assert_array_equal(by_name["y"], by_alias["y"])


A = np.zeros((1, 2), np.float32)
B = np.zeros((1, 2), np.int64)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        pytest.param({"a": A}, "the input 'b' is missing", id="missing"),
        pytest.param({"a": A, "b": B, "c": A}, "the model has no input 'c'", id="unknown"),
        pytest.param({"a": A, "b": A}, "numpy type float32, expected int64", id="type"),
        pytest.param({"a": A, "b": B[0]}, "the shape [2], expected [-1, 2]", id="rank"),
        pytest.param({"a": A, "b": B[:, :1]}, "the shape [1, 1], expected [-1, 2]", id="length"),
        pytest.param(
            {"a": np.zeros((3, 2), np.float32), "b": np.zeros((2, 2), np.int64)},
            "OpenVINO refused the inputs",
            id="only OpenVINO can tell",
        ),
    ],
)
def test_an_input_that_does_not_fit_is_refused(inputs: dict[str, Array], sentence: str) -> None:
    with load(models.two_by_two()) as loaded:
        with pytest.raises(RequestInvalid) as failure:
            loaded.infer(inputs)
        assert sentence in failure.value.message
        assert loaded.infer({"a": A, "b": B})["count"].tolist() == [[1, 1]], "the worker lives on"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([b"zero\0"], "ends with a zero byte"),
        (["text"], "not bytes"),
        ([b"x" * (1 << 20), *[b""] * 300], "allowed are"),
    ],
)
def test_a_string_that_would_be_altered_or_explode_is_refused(
    words: list[Any], sentence: str
) -> None:
    array = np.empty(len(words), np.object_)
    array[:] = words
    with (
        load(models.joined("string", [-1])) as loaded,
        pytest.raises(RequestInvalid, match=sentence),
    ):
        loaded.infer({"x": array})


def test_one_model_is_chosen_and_several_need_a_name() -> None:
    other = {f"tokenizer/{path}": data for path, data in models.joined("f32", [-1, 3]).items()}
    both = models.perceptron() | other | {"notes.txt": b"x"}
    with pytest.raises(ModelLoadFailed, match="there are 2 of them"):
        load(both)
    with load(both, entry="tokenizer/model.xml") as loaded:
        assert loaded.inputs[0].shape == (-1, 3)
    with pytest.raises(ModelLoadFailed, match=r"failed to find the model 'nothing\.xml'"):
        load(both, entry="nothing.xml")
    with pytest.raises(ModelLoadFailed, match="there are 0 of them"):
        load({"notes.txt": b"x"})


CANARY = "canary_layer"


def damaged() -> dict[str, models.Files]:
    """Return models that OpenVINO refuses."""
    good = models.perceptron()
    xml = good["model.xml"].replace(b'name="x"', f'name="{CANARY}"'.encode())
    return {
        "no weights": {"model.xml": xml},
        "short weights": {"model.xml": xml, "model.bin": good["model.bin"][:-64]},
        "cut topology": {"model.xml": xml[:-200], "model.bin": good["model.bin"]},
        "not a topology": {"model.xml": CANARY.encode(), "model.bin": good["model.bin"]},
        "not text": {"model.xml": b"\xff\xfe" + xml, "model.bin": good["model.bin"]},
        "unknown layer": {
            "model.xml": xml.replace(b'type="MatMul"', b'type="' + CANARY.encode() + b'"'),
            "model.bin": good["model.bin"],
        },
        "not protobuf": {"model.onnx": CANARY.encode() * 9},
        "cut onnx": {"model.onnx": MAGIKA.read_bytes()[:5000]},
    }


@pytest.mark.parametrize("case", damaged())
def test_a_model_that_openvino_refuses_is_released_and_its_layers_are_not_named(case: str) -> None:
    released: list[int] = []
    with pytest.raises(ModelLoadFailed) as failure:
        load(damaged()[case], release=lambda: released.append(1))
    assert released == [1]
    assert CANARY not in f"{failure.value!r} {failure.value.__cause__!r} {failure.value.hint}"
    assert failure.value.__context__ is None or CANARY not in str(failure.value.__context__)


def test_an_absent_device_is_named() -> None:
    with pytest.raises(DeviceUnavailable, match="none of GPU, NPU is on this machine"):
        load(models.perceptron(), devices=("GPU", "NPU"))


@pytest.mark.parametrize("device", ["AUTO", "MULTI:GPU,CPU", "HETERO:GPU,CPU", "BATCH:CPU(4)"])
def test_a_device_made_of_devices_answers_with_those_that_are_there(device: str) -> None:
    x = {"x": np.ones((1, 64), np.float32)}
    with load(models.perceptron()) as plain, load(models.perceptron(), devices=(device,)) as loaded:
        assert loaded.device == device.replace("GPU,", "")
        np.testing.assert_array_equal(loaded.infer(x)["y"], plain.infer(x)["y"])


def test_the_first_device_that_is_there_wins_and_the_others_say_why_not() -> None:
    with load(models.perceptron(), devices=("NPU", "AUTO:GPU,CPU", "CPU")) as loaded:
        assert loaded.device == "AUTO:CPU"
        assert [(one.device, one.why) for one in loaded.refused] == [
            ("NPU", "this machine does not have it")
        ]


@pytest.mark.parametrize(
    "name", ["CACHE_DIR", "CACHE_MODE", "CACHE_ENCRYPTION_CALLBACKS", "WEIGHTS_PATH", "LOG_LEVEL"]
)
def test_a_property_that_could_write_the_model_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="not an allowed one"):
        load(models.perceptron(), config={name: "somewhere"})


@pytest.mark.parametrize("device", [None, "CPU"])
def test_a_cache_that_an_application_set_on_its_core_stays_empty(
    tmp_path: Path, device: str | None
) -> None:
    core = ov.Core()
    setting = {"CACHE_DIR": str(tmp_path)}
    core.set_property(device, setting) if device else core.set_property(setting)
    with load(models.perceptron(), core=core):
        assert list(tmp_path.iterdir()) == []


def test_a_closed_model_says_so_and_was_released_once() -> None:
    released: list[int] = []
    loaded = load(models.perceptron(), release=lambda: released.append(1))
    assert loaded.close()
    assert loaded.close()
    assert released == [1]
    with pytest.raises(ModelClosed):
        loaded.infer({"x": np.ones((1, 64), np.float32)})


def while_inside(loaded: LoadedModel, act: Callable[[], None]) -> list[BaseException | Array]:
    """Run `act` while a request is inside the model; return what became of the request."""
    inside, leave = threading.Event(), threading.Event()
    found: list[BaseException | Array] = []

    def consume(outputs: dict[str, Array]) -> Array:
        inside.set()
        assert leave.wait(20)
        return outputs["y"].copy()

    def ask() -> None:
        try:
            found.append(loaded.run({"x": np.ones((1, 64), np.float32)}, consume))
        except ModelsealError as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert inside.wait(20)
        act()
    finally:
        leave.set()
        thread.join(20)
    return found


def test_memory_outlives_the_request_that_runs_when_the_model_is_closed() -> None:
    released: list[int] = []
    loaded = load(models.perceptron(), release=lambda: released.append(1))

    def close() -> None:
        assert not loaded.close(seconds=0.05), "a request is inside"
        assert released == []
        with pytest.raises(ModelClosed):
            loaded.infer({"x": np.ones((1, 64), np.float32)})

    (answer,) = while_inside(loaded, close)
    assert isinstance(answer, np.ndarray)
    assert released == [1], "the last request released the memory"
    assert loaded.close()


def test_a_request_that_waits_for_its_turn_is_refused_when_the_model_closes() -> None:
    loaded = load(models.perceptron(), requests=1)
    waiting: list[BaseException] = []

    def ask() -> None:
        try:
            loaded.infer({"x": np.ones((1, 64), np.float32)})
        except ModelClosed as error:
            waiting.append(error)

    second = threading.Thread(target=ask)

    def close() -> None:
        second.start()
        while loaded._inside < 2:
            assert second.is_alive()
        assert not loaded.close(seconds=0.01)

    while_inside(loaded, close)
    second.join(20)
    assert [type(error) for error in waiting] == [ModelClosed]
    assert loaded.close()
