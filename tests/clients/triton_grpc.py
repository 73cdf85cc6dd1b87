"""tritonclient over gRPC, synchronous and with callbacks."""

from concurrent.futures import Future
from typing import Any

import tritonclient.grpc as triton
from cases import Case, arguments, say
from tritonclient.utils import InferenceServerException


def main() -> None:
    """Ask for everything, and send every case in every form."""
    address, model, cases = arguments()
    client = triton.InferenceServerClient(address)
    found = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model),
        "server": client.get_server_metadata(as_json=True),
        "metadata": client.get_model_metadata(model, as_json=True),
        "config": client.get_model_config(model, as_json=True),
        "index": client.get_model_repository_index(as_json=True),
    }
    names = [one["name"] for one in found["metadata"]["outputs"]]
    for case in cases:
        for variant in ("plain", "gzip", "deflate", "later"):
            outputs = ask(client, model, case, variant, names)
            case.answered(f"triton-grpc-{variant}", outputs)
    found["statistics"] = client.get_inference_statistics(model, as_json=True)
    found["errors"] = [
        error(lambda: client.get_model_metadata("nobody")),
        error(lambda: client.infer(model, [])),
        error(lambda: client.load_model(model)),
        error(client.get_system_shared_memory_status),
    ]
    say(**found)


def ask(client: Any, model: str, case: Case, variant: str, names: list[str]) -> dict[str, Any]:
    """Send one case."""
    inputs = []
    for name, array in case.inputs.items():
        tensor = triton.InferInput(name, list(array.shape), case.datatype(name))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    options: dict[str, Any] = {
        "request_id": "r-1",
        "client_timeout": 60,
        "outputs": [triton.InferRequestedOutput(name) for name in names],
    }
    if variant in ("gzip", "deflate"):
        options["compression_algorithm"] = variant
    if variant == "later":
        later: Future[Any] = Future()

        def done(result: Any, error: Any) -> None:
            later.set_exception(error) if error else later.set_result(result)

        client.async_infer(model, inputs, done, **options)
        result = later.result(60)
    else:
        result = client.infer(model, inputs, **options)
    assert result.get_response().id == "r-1"
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
