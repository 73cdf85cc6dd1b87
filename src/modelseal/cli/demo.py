"""The story that `modelseal demo` tells; every figure in it was just measured."""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from modelseal.cli import console
from modelseal.cli import options as opt
from modelseal.cli.story import first_half, second_half
from modelseal.cli.story.stage import Stage
from modelseal.cli.story.telling import Teller
from modelseal.cli.story.verbs import DemoFailed

EXAMPLES: Final = """\
modelseal demo
modelseal demo --json
"""
CHAPTERS: Final = (
    first_half.meet_the_model,
    first_half.seal_with_a_passphrase,
    first_half.look_at_the_noise,
    first_half.flip_one_byte,
    second_half.start_a_key_service,
    second_half.seal_for_the_key_service,
    second_half.serve,
    second_half.ask,
    second_half.take_the_key_away,
)


def command(json: opt.Json = False) -> None:
    """See all of it in one go, with a real model.

    Seals the model of the package magika (what kind of file is this?) with a passphrase and with a
    real OpenBao server, shows that the result is noise and that one flipped byte is refused, serves
    it from memory, asks over HTTP and gRPC, and takes the key away. Needs no network and no rights;
    everything it makes is in one temporary folder, which it removes.
    """
    started = time.monotonic()
    teller = Teller(quiet=json)
    with tempfile.TemporaryDirectory(prefix="modelseal-demo-") as name, ExitStack() as stack:
        stage = Stage(folder=Path(name), teller=teller, stack=stack)
        for chapter in CHAPTERS:
            chapter(stage)
    seconds = round(time.monotonic() - started, 1)
    if Path(name).exists():
        raise DemoFailed(f"failed to clean up: {name} is still there")
    teller.chapter("The end")
    teller.say(
        f"Every process has ended and every file is gone, {seconds} seconds after the start."
    )
    if json:
        console.show_json(stage.figures | {"seconds": seconds})
