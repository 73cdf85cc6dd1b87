"""`modelseal seal`: a model becomes a folder of ciphertext, or nothing at all."""

import os
from datetime import UTC
from pathlib import Path
from typing import Annotated, Final

import typer

from modelseal.cli import console, progress
from modelseal.cli import options as opt
from modelseal.cli.environment import open_key, open_signing_key
from modelseal.cli.models import collected
from modelseal.cli.recipients import refuse_weakest, wrap_for
from modelseal.envelope import Seal, seal_files
from modelseal.errors import OutputFailed, shown

EXAMPLES: Final = """\
modelseal seal model.onnx -o model.sealed --model me/model --version 1 --key passphrase:
modelseal seal model.xml -o out --model me/model --version 1.2 --sequence 12 \\
    --key vault:transit/models --sign release
"""
UNSIGNED: Final = (
    "no --sign: nobody will be able to tell who sealed this model; "
    "whoever may use the key can make another one"
)


Source = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="A .xml (with its .bin), .onnx, or a folder.", readable=False
    ),
]
"""`readable=False`: what cannot be read is an error of ours with its own code, not wrong usage."""
Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The folder to make.")]
Version = Annotated[str, typer.Option("--version", metavar="V", help="The model's version.")]
Sign = Annotated[
    str | None,
    typer.Option(
        "--sign", metavar="KEY", help="Who signs: a private key's file, or vault:MOUNT/KEY."
    ),
]
Sequence = Annotated[
    int, typer.Option("--sequence", metavar="N", min=0, help="Grows with each release.")
]
KeepOnnx = Annotated[
    bool, typer.Option("--keep-onnx", help="Seal an .onnx as it is instead of converting it.")
]


def command(  # noqa: PLR0913 - one argument for each option
    source: Source,
    *,
    output: Output,
    model: opt.Model,
    version: Version,
    key: opt.Keys,
    sign: Sign = None,
    sequence: Sequence = 0,
    not_after: opt.NotAfter = None,
    keep_onnx: KeepOnnx = False,
    allow_weakest: opt.AllowWeakest = False,
    json: opt.Json = False,
) -> None:
    """Encrypt a model and wrap its key.

    The folder OUT appears when everything is in it, or not at all. Publish it anywhere: it holds
    ciphertext only, and not even file names. Give --key once for each party that may open it.
    """
    _require_outside(output, source)
    providers = [open_key(uri, new=True) for uri in key]
    refuse_weakest([provider.kind for provider in providers], allowed=allow_weakest)
    signer = open_signing_key(sign) if sign else None
    with (
        collected(source, keep_onnx=keep_onnx) as files,
        progress.in_bytes("sealing", sum(file.length for file in files)) as advance,
    ):
        made = seal_files(
            files=files,
            output=output,
            model=model,
            version=version,
            sequence=sequence,
            not_after=not_after.replace(tzinfo=UTC) if not_after else None,
            recipients_for=wrap_for(providers),
            signer=signer,
            progress=advance,
        )
    show_made(made, output, json=json)


def _require_outside(output: Path, source: Path) -> None:
    """Refuse to put ciphertext into the folder that is sealed: the next seal would hold it."""
    inside = Path(os.path.realpath(output)).is_relative_to(os.path.realpath(source))
    if inside and os.path.isdir(source):
        raise OutputFailed(
            f"failed to write {shown(str(output))}: it lies inside the model",
            hint="choose a destination outside of the folder that is sealed",
        )


def show_made(made: Seal, output: Path, *, json: bool) -> None:
    """Say what was made, in the words of the resource that will name it."""
    result = {
        "sealed": str(output),
        "model": made.manifest.model,
        "version": made.manifest.version,
        "modelSize": made.plaintext_size,
        "digest": made.digest,
        "signer": made.envelope.signatures[0].keyid if made.envelope.signatures else None,
    }
    if not made.envelope.signatures:
        console.warn(UNSIGNED)
    if json:
        console.show_json(result)
    else:
        console.show_fields({name: str(value) for name, value in result.items() if value})
