"""tritonclient over HTTP, synchronous: everything that it asks a server by default."""

from typing import Any

import tritonclient.http as triton
from cases import Case, arguments, say
from tritonclient.utils import InferenceServerException


def main() -> None:
    """Ask for everything, and send every case in every form."""
    address, model, cases = arguments()
    client = triton.InferenceServerClient(address, concurrency=4)
    found = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model),
        "server": client.get_server_metadata(),
        "metadata": client.get_model_metadata(model),
        "config": client.get_model_config(model),
        "index": client.get_model_repository_index(),
    }
    for case in cases:
        for variant in ("binary", "json", "gzip", "deflate", "later"):
            if variant != "json" or not case.has_halves:
                case.answered(f"triton-http-{variant}", ask(client, model, case, variant))
    found["statistics"] = client.get_inference_statistics(model)
    found["errors"] = [
        error(lambda: client.get_model_metadata("nobody")),
        error(lambda: client.infer(model, [])),
        error(lambda: client.load_model(model)),
        error(client.get_system_shared_memory_status),
    ]
    say(**found)


def ask(client: Any, model: str, case: Case, variant: str) -> dict[str, Any]:
    """Send one case."""
    inputs = []
    for name, array in case.inputs.items():
        tensor = triton.InferInput(name, list(array.shape), case.datatype(name))
        tensor.set_data_from_numpy(array, binary_data=variant != "json")
        inputs.append(tensor)
    names = [one["name"] for one in client.get_model_metadata(model)["outputs"]]
    outputs = [triton.InferRequestedOutput(n, binary_data=variant != "json") for n in names]
    options: dict[str, Any] = {"outputs": outputs, "request_id": "r-1"}
    if variant in ("gzip", "deflate"):
        options["request_compression_algorithm"] = variant
        options["response_compression_algorithm"] = variant
    if variant == "later":
        result = client.async_infer(model, inputs, **options).get_result()
    else:
        result = client.infer(model, inputs, **options)
    assert result.get_response()["id"] == "r-1"
    return {name: result.as_numpy(name) for name in names}


def error(call: Any) -> tuple[str, str]:
    """Return status and sentence of a call that fails."""
    try:
        call()
    except InferenceServerException as failure:
        return str(failure.status()), failure.message()
    raise AssertionError("the call did not fail")


if __name__ == "__main__":
    main()
