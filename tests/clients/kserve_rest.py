"""KServe's client over REST, with binary data and with JSON."""

import asyncio
from typing import Any

from cases import Case, arguments, say
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.constants.constants import PredictorProtocol


async def main() -> None:
    """Ask for everything, and send every case in both forms."""
    address, model, cases = arguments()
    client = InferenceRESTClient(RESTConfig(protocol=PredictorProtocol.REST_V2, timeout=60))
    base = f"http://{address}"
    found = {
        "live": await client.is_server_live(base),
        "ready": await client.is_server_ready(base),
        "model_ready": await client.is_model_ready(base, model),
    }
    for case in cases:
        for binary in (True, False):
            if binary or not case.has_halves:
                variant = f"kserve-rest-{'binary' if binary else 'json'}"
                case.answered(variant, await ask(client, base, model, case, binary))
    await client.close()
    say(**found)


async def ask(client: Any, base: str, model: str, case: Case, binary: bool) -> dict[str, Any]:
    """Send one case."""
    inputs = []
    for name, array in case.inputs.items():
        tensor = InferInput(name, list(array.shape), case.datatype(name))
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    request = InferRequest(
        model_name=model, infer_inputs=inputs, parameters={"binary_data_output": binary}
    )
    response = await client.infer(base, request, model_name=model)
    return {output.name: output.as_numpy() for output in response.outputs}


if __name__ == "__main__":
    asyncio.run(main())
