"""The library `requests`, as somebody uses it who knows no client of the protocol."""

from typing import Any

import numpy as np
import requests
from cases import Case, arguments, say


def main() -> None:
    """Send every case as JSON."""
    address, model, cases = arguments()
    base = f"http://{address}/v2"
    with requests.Session() as session:
        metadata = session.get(f"{base}/models/{model}", timeout=60).json()
        kinds = {one["name"]: one["datatype"] for one in metadata["outputs"]}
        for case in cases:
            if case.has_halves:
                continue
            body = {"inputs": [tensor(case, name) for name in case.inputs]}
            answer = session.post(f"{base}/models/{model}/infer", json=body, timeout=60)
            answer.raise_for_status()
            case.answered("requests", {one["name"]: array(one) for one in answer.json()["outputs"]})
    say(kinds=kinds)


def tensor(case: Case, name: str) -> dict[str, Any]:
    """Return an input as JSON, nested as its shape says."""
    values = case.inputs[name]
    text = np.vectorize(bytes.decode, otypes=[object])(values) if values.dtype == object else values
    return {
        "name": name,
        "datatype": case.datatype(name),
        "shape": list(values.shape),
        "data": text.tolist(),
    }


def array(output: dict[str, Any]) -> Any:
    """Return an output as an array."""
    kind = {"BYTES": "bytes_", "BOOL": "bool_", "FP32": "float32", "FP64": "float64"}
    dtype = kind.get(output["datatype"], output["datatype"].lower())
    return np.array(output["data"], dtype).reshape(output["shape"])


if __name__ == "__main__":
    main()
