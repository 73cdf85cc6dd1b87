"""ONNX to IR: nothing on a disk, nothing from outside the model's folder, same numbers."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelseal.engine import LoadedModel, convert_onnx
from modelseal.engine import convert as convert_module
from modelseal.engine._openvino import ov
from modelseal.engine.onnx_data import external_locations
from modelseal.errors import InputUnreadable, ModelLoadFailed, NotAModel
from support import models

WEIGHTS = np.arange(64, dtype=np.float32).reshape(8, 8)


def graph(tensors: list[Any], nodes: list[Any] | None = None) -> Any:
    """Return an ONNX model that multiplies by the tensor `w`."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])
    steps = nodes or [helper.make_node("MatMul", ["x", "w"], ["y"])]
    made = helper.make_graph(steps, "graph", [x], [y], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])


def external(location: str, name: str = "w") -> Any:
    """Return the tensor `w` that lies in another file."""
    tensor = numpy_helper.from_array(WEIGHTS, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(WEIGHTS.nbytes)}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def saved(folder: Path, model: Any) -> Path:
    """Write a model."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def asked(xml: bytes, weights: bytes) -> Any:
    """Load an IR and ask it for one row."""
    files = models.views({"model.xml": xml, "model.bin": weights})
    with LoadedModel.load(files, release=lambda: None) as loaded:
        return loaded.infer({"x": np.ones((1, 8), np.float32)})["y"]


def test_external_data_beside_the_model_is_folded_in(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "weights.dat").write_bytes(WEIGHTS.tobytes())
    path = saved(tmp_path, graph([external("data/weights.dat")]))
    with convert_onnx(path) as converted, converted.open_weights() as weights:
        answer = asked(converted.xml, weights.read())
        assert converted.weights_length >= WEIGHTS.nbytes
    np.testing.assert_array_equal(answer, WEIGHTS.sum(0, keepdims=True))


def test_weights_keep_their_precision() -> None:
    with convert_onnx(models.magika_onnx()) as converted:
        assert converted.weights_length > 2_900_000, "halved weights would be half as long"
        assert b'element_type="f16"' not in converted.xml


def test_the_converted_model_has_no_place_in_a_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: list[tuple[bool, str]] = []

    class Watching:
        """OpenVINO, with a look at the temporary folder after it wrote."""

        Core = ov.Core

        @staticmethod
        def serialize(model: Any, xml: Path, data: Path) -> None:
            ov.serialize(model, xml, data)
            seen.extend((path.is_symlink(), os.readlink(path)) for path in (xml, data))

    monkeypatch.setattr(convert_module, "ov", Watching)
    with convert_onnx(models.magika_onnx()) as converted:
        assert converted.xml.startswith(b"<?xml")
    assert [link for link, _ in seen] == [True, True]
    assert all(target.startswith("/proc/") for _, target in seen)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "location", ["../weights.dat", "/etc/hostname", "link/hostname", "", "data/../../weights.dat"]
)
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to("/etc")
    (folder / "data").mkdir()
    (tmp_path / "weights.dat").write_bytes(WEIGHTS.tobytes())
    with pytest.raises(NotAModel, match="outside its folder"):
        convert_onnx(saved(folder, graph([external(location)])))


def test_external_data_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match=r"the file 'w\.dat' is missing"):
        convert_onnx(saved(tmp_path, graph([external("w.dat")])))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"", "it is empty", id="empty"),
        pytest.param(b"\xff" * 64, "protobuf encoding is damaged", id="not protobuf"),
        pytest.param(models.magika_onnx().read_bytes()[:4000], "damaged", id="cut"),
        pytest.param(b"\x08\x07", "OpenVINO does not accept it", id="no graph"),
    ],
)
def test_what_is_no_onnx_model_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(NotAModel, match=sentence):
        convert_onnx(path)


def test_a_model_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable):
        convert_onnx(tmp_path / "nothing.onnx")


def hidden_places() -> dict[str, Any]:
    """Return models that keep an external tensor in every place where one can be."""
    tensor = external("elsewhere")
    inner = graph([tensor]).graph
    sparse = onnx.SparseTensorProto(values=tensor, indices=numpy_helper.from_array(WEIGHTS[0]))
    attribute = {
        "graph": helper.make_attribute("body", inner),
        "graphs": helper.make_attribute("bodies", [inner]),
        "tensor": helper.make_attribute("value", tensor),
        "tensors": helper.make_attribute("values", [tensor]),
        "sparse": helper.make_attribute("sparse", sparse),
    }
    found: dict[str, Any] = {"initializer": graph([tensor])}
    for name, value in attribute.items():
        node = helper.make_node("Constant", [], ["c"])
        node.attribute.append(value)
        found[f"attribute {name}"] = graph([], [node])
    model = graph([])
    model.graph.sparse_initializer.append(sparse)
    found["sparse initializer"] = model
    model = graph([])
    model.training_info.add().algorithm.CopyFrom(inner)
    found["training"] = model
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(attribute["tensor"])
    model = graph([])
    model.functions.append(
        helper.make_function("d", "f", [], ["c"], [node], [helper.make_opsetid("", 17)])
    )
    found["function"] = model
    return found


@pytest.mark.parametrize("place", hidden_places())
def test_an_external_tensor_is_found_wherever_it_hides(place: str) -> None:
    data = hidden_places()[place].SerializeToString()
    assert external_locations(data) == {"elsewhere"}


def test_a_tensor_that_claims_external_data_without_a_file_counts() -> None:
    tensor = numpy_helper.from_array(WEIGHTS, "w")
    tensor.data_location = TensorProto.EXTERNAL
    assert external_locations(graph([tensor]).SerializeToString()) == {""}


def test_a_model_without_external_data_refers_to_nothing() -> None:
    assert external_locations(models.magika_onnx().read_bytes()) == set()


def test_an_onnx_model_from_memory_reads_no_file_of_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.dat").write_bytes(WEIGHTS.tobytes())
    monkeypatch.chdir(tmp_path)
    files = models.views({"model.onnx": graph([external("w.dat")]).SerializeToString()})
    with pytest.raises(ModelLoadFailed, match=r"keeps tensors in 1 other file"):
        LoadedModel.load(files, release=lambda: None)
