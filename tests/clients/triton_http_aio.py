"""tritonclient over HTTP, asynchronous."""

import asyncio
from collections.abc import Iterable
from typing import Any

import tritonclient.http.aio as triton
from cases import Case, arguments, say


async def main() -> None:
    """Send every case, several at a time."""
    address, model, cases = arguments()
    async with triton.InferenceServerClient(address) as client:
        found = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready(model),
            "metadata": await client.get_model_metadata(model),
        }
        names = [one["name"] for one in found["metadata"]["outputs"]]
        await asyncio.gather(*(ask(client, model, case, names) for case in cases))
    say(**found)


async def ask(client: Any, model: str, case: Case, names: Iterable[str]) -> None:
    """Send one case."""
    inputs = []
    for name, array in case.inputs.items():
        tensor = triton.InferInput(name, list(array.shape), case.datatype(name))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    result = await client.infer(model, inputs)
    case.answered("triton-http-aio", {name: result.as_numpy(name) for name in names})


if __name__ == "__main__":
    asyncio.run(main())
