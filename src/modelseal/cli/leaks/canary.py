"""A model of nothing but canaries: in its weights, in its layers, in its file name."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelseal.cli.leaks.needles import Needle

_WIDTH: Final = 1 << 18
_IR: Final = """<?xml version="1.0"?>
<net name="{word}" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1,{n}" element_type="f32"/>
<output><port id="0" precision="FP32" names="x"><dim>1</dim><dim>{n}</dim></port></output></layer>
<layer id="1" name="{word}-constant" type="Const" version="opset1">
<data element_type="f32" shape="1,{n}" offset="0" size="{size}"/>
<output><port id="0" precision="FP32"><dim>1</dim><dim>{n}</dim></port></output></layer>
<layer id="2" name="{word}-add" type="Add" version="opset1"><data auto_broadcast="numpy"/>
<input><port id="0" precision="FP32"><dim>1</dim><dim>{n}</dim></port>
<port id="1" precision="FP32"><dim>1</dim><dim>{n}</dim></port></input>
<output><port id="2" precision="FP32" names="y"><dim>1</dim><dim>{n}</dim></port></output></layer>
<layer id="3" name="{word}-result" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>1</dim><dim>{n}</dim></port></input></layer>
</layers><edges>
<edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/>
</edges><rt_info/></net>
"""


@dataclass(frozen=True, kw_only=True)
class Canary:
    """The model's files, and what to look for."""

    xml: Path
    width: int
    needles: tuple[Needle, ...]


def hatch(folder: Path) -> Canary:
    """Write the model into a folder; its input `x` and output `y` are `1 x width` FP32."""
    # ASCII text read as floats gives finite numbers, so OpenVINO takes it for weights.
    words = [f"cnry{secrets.token_hex(14)}" for _ in range(3)]
    weights, topology, name = words
    size = _WIDTH * 4
    xml = folder / f"{name}.xml"
    xml.write_text(_IR.format(word=topology, n=_WIDTH, size=size))
    text = weights.encode()
    xml.with_suffix(".bin").write_bytes(text * (size // len(text)))
    kinds = ("weights", "topology", "file name")
    found = (Needle.of(kind, word.encode()) for kind, word in zip(kinds, words, strict=True))
    return Canary(xml=xml, width=_WIDTH, needles=tuple(found))
