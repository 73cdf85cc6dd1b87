"""The options of `modelseal serve` that no other verb has."""

from typing import Annotated

import typer

Devices = Annotated[
    str,
    typer.Option(
        "--device", metavar="LIST", help="Devices, the first that works is taken: NPU,GPU,CPU."
    ),
]
Properties = Annotated[
    list[str] | None,
    typer.Option(
        "--property",
        metavar="DEVICE.NAME=VALUE",
        help="An OpenVINO property of one device, such as CPU.INFERENCE_PRECISION_HINT=f32; "
        "repeat for more.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Name on the wire; by default what follows the / in --model."
    ),
]
Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")]
HttpPort = Annotated[
    int, typer.Option(metavar="PORT", min=0, max=65535, help="REST; 0 lets the system choose.")
]
GrpcPort = Annotated[
    int, typer.Option(metavar="PORT", min=0, max=65535, help="gRPC; 0 lets the system choose.")
]
HealthPort = Annotated[
    int, typer.Option(metavar="PORT", min=0, max=65535, help="Probes; 0 lets the system choose.")
]
LeaseInterval = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=5, help="How often the right to the key is checked."),
]
MaxStale = Annotated[
    float, typer.Option(metavar="SECONDS", help="How long an absent key service is endured.")
]
AllowSwap = Annotated[
    bool, typer.Option("--allow-swap", help="Serve although swap may write memory to a disk.")
]
LogLevel = Annotated[
    str | None,
    typer.Option(metavar="LEVEL", help="Show what both programs log: error, warning, info, debug."),
]
