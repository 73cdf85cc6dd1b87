"""The first half of the demo: a model becomes noise, and the noise can't be touched."""

import secrets
import time
from pathlib import Path
from typing import Final

from modelseal.cli.console import human_size
from modelseal.cli.story import noise
from modelseal.cli.story.stage import MODEL, PHRASE_FILE, SIGNER, Stage, seconds_since

SEALED: Final = "filetype.sealed"


def meet_the_model(stage: Stage) -> None:
    """Put the model where a user would have it."""
    content = stage.kind.model.read_bytes()
    (stage.folder / "filetype.onnx").write_bytes(content)
    words = noise.words(content)
    stage.figures |= {"modelBytes": len(content), "modelWords": len(words)}
    stage.teller.chapter("A model")
    stage.teller.say(
        f"filetype.onnx tells {len(stage.kind.labels)} kinds of files apart. It is the model of the"
        f" package magika, {human_size(len(content))}."
    )
    stage.teller.say(
        f"Anybody who has the file can use it, change it and read it: there are {len(words)} "
        "readable names in it, such as"
    )
    stage.teller.answered(_some(words))


def seal_with_a_passphrase(stage: Stage) -> None:
    """Seal it as somebody without any infrastructure would."""
    stage.teller.chapter("Sealed with a passphrase")
    (stage.folder / PHRASE_FILE).write_text(secrets.token_urlsafe(18))
    stage.teller.say(
        "The passphrase is in a file that MODELSEAL_PASSPHRASE_FILE names; on a terminal it would "
        "be asked for."
    )
    verbs, started = stage.with_passphrase, time.monotonic()
    verbs.run("keygen", "-o", "release", "--type", "ed25519")
    answer = verbs.run(
        *("seal", "filetype.onnx", "-o", SEALED, "--model", MODEL, "--version", "1"),
        *("--key", "passphrase:", "--sign", "release"),
    )
    stage.teller.answered(answer)
    stage.figures["sealSeconds"] = seconds_since(started)
    stage.prove(
        (stage.folder / SEALED / "seal.json").is_file(),
        f"sealed and signed in {stage.figures['sealSeconds']} s",
    )


def look_at_the_noise(stage: Stage) -> None:
    """Look at the sealed bytes as a thief would."""
    stage.teller.chapter("What a thief sees")
    plain = stage.kind.model.read_bytes()
    payloads = noise.content_of(stage.folder / SEALED / "p")
    found = noise.common(noise.words(plain), noise.content_of(stage.folder / SEALED))
    before, after = noise.entropy(plain), noise.entropy(payloads)
    stage.figures |= {"plainEntropy": before, "sealedEntropy": after, "wordsFound": len(found)}
    stage.teller.table(
        ["", "bytes", "entropy", "names found"],
        [
            [
                "filetype.onnx",
                f"{len(plain)}",
                f"{before:.4f} bit/byte",
                f"{len(noise.words(plain))}",
            ],
            [SEALED, f"{len(payloads)}", f"{after:.4f} bit/byte", f"{len(found)}"],
        ],
    )
    stage.prove(after > 7.999 and not found, "8 bits in every byte, and not one name: noise")


def flip_one_byte(stage: Stage) -> None:
    """Flip one bit in the middle of the largest payload, see it refused, and flip it back."""
    stage.teller.chapter("One byte flipped")
    largest = max((stage.folder / SEALED / "p").iterdir(), key=lambda path: path.stat().st_size)
    offset = largest.stat().st_size // 2
    verify = ("verify", SEALED, "--signer", SIGNER, "--model", MODEL, "--key", "passphrase:")
    stage.teller.say(f"One bit at offset {offset} of p/{largest.name} is turned around.")
    _flip(largest, offset)
    said = stage.with_passphrase.refused(*verify)
    stage.prove("failed to" in said, "refused, and no plaintext is left anywhere")
    stage.teller.say("It is turned back.")
    _flip(largest, offset)
    stage.teller.answered(stage.with_passphrase.run(*verify))
    stage.prove(True, "signature, digests, key and every segment are right again")


def _flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def _some(words: set[bytes]) -> str:
    plain = [word.decode() for word in words if word[:1].islower() and b"/" in word]
    return "\n".join(word[:80] for word in sorted(plain)[:3])
