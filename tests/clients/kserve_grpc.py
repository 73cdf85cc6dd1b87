"""KServe's client over gRPC."""

import asyncio
from typing import Any

from cases import Case, arguments, say
from kserve import InferenceGRPCClient, InferInput, InferRequest


async def main() -> None:
    """Ask for everything, and send every case."""
    address, model, cases = arguments()
    async with InferenceGRPCClient(address) as client:
        found = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready(model),
        }
        for case in cases:
            case.answered("kserve-grpc", await ask(client, model, case))
    say(**found)


async def ask(client: Any, model: str, case: Case) -> dict[str, Any]:
    """Send one case."""
    inputs = []
    for name, array in case.inputs.items():
        tensor = InferInput(name, list(array.shape), case.datatype(name))
        tensor.set_data_from_numpy(array, binary_data=True)
        inputs.append(tensor)
    request = InferRequest(model_name=model, infer_inputs=inputs)
    response = await client.infer(request, timeout=60)
    return {output.name: output.as_numpy() for output in response.outputs}


if __name__ == "__main__":
    asyncio.run(main())
