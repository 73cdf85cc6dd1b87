"""A process that opens one sealed model very often, in many threads, while things go wrong.

    python -m support.many_opens FOLDER KEY MODEL COUNT SEED SMALL

With a key file the data key is unwrapped once, and slow or missing keys are planned here. With one
of a key service each open asks for it anew; how that answers is for whoever stands in front of it.
SMALL is a tmpfs without room for the model, to which the agent's own delivery tries to bring it.
Prints one JSON object: how often each outcome came, and what was open and mapped before and after.
Then it waits for the end of standard input, so that its memory can be looked at.
"""

import collections
import contextlib
import errno
import gc
import json
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from modelseal import handover, opening
from modelseal.cli.keyring import Keyring
from modelseal.contract import Delivery
from modelseal.envelope import DataKeys, Policy, Seal
from modelseal.errors import KeyServiceUnavailable, ModelsealError
from modelseal.keys import open_provider
from modelseal.memory import PlaintextMemory
from modelseal.sources import open_source
from modelseal_sidecar.delivery import Parcel
from modelseal_sidecar.status import Board, Status
from modelseal_sidecar.tmpfs import TmpfsDelivery

THREADS: Final = 8
FAULTS: Final = (
    "none",
    "none",
    "eio",
    "short",
    "shrunk",
    "flipped",
    "no key",
    "slow key",
    "enospc",
)
_plan: Final = threading.local()
_preadv: Final = os.preadv


def faulty_preadv(descriptor: int, buffers: Any, offset: int) -> int:
    """Read as the thread's plan says: with an error, too little, nothing, or something else."""
    fault, chance = getattr(_plan, "value", ("none", random.Random(0)))  # noqa: S311 - a plan, no secret
    if fault == "eio" and chance.random() < 0.5:
        raise OSError(errno.EIO, "planned")
    if fault == "short":
        return _preadv(descriptor, [buffers[0][: max(1, len(buffers[0]) // 3)]], offset)
    if fault == "shrunk" and chance.random() < 0.5:
        return 0
    count = _preadv(descriptor, buffers, offset)
    if fault == "flipped" and count:
        buffers[0][chance.randrange(count)] ^= 1 << chance.randrange(8)
    return count


class KeptKey:
    """A data key that was unwrapped once, and comes late or not at all where that is planned."""

    def __init__(self, keys: DataKeys) -> None:
        self._keys = keys

    @contextlib.contextmanager
    def arriving(self, fault: str, chance: random.Random) -> Iterator[DataKeys]:
        """Yield the key as the plan says."""
        if fault == "slow key":
            time.sleep(chance.random() / 50)
        if fault == "no key":
            raise KeyServiceUnavailable("failed to unwrap: planned")
        yield self._keys


class AskedKey:
    """A data key that each open asks the key service for, over its thread's own connection."""

    def __init__(self, seal: Seal, uri: str, model: str) -> None:
        self._seal, self._model = seal, model
        self._keyring = Keyring()
        self._uri = uri

    @contextlib.contextmanager
    def arriving(self, fault: str, chance: random.Random) -> Iterator[DataKeys]:
        """Yield the key, and wipe it."""
        del fault, chance
        keys = opening.unwrap_keys(self._seal, self._keyring(self._uri, False), self._model)
        try:
            yield keys
        finally:
            keys.wipe()


@dataclass(frozen=True, kw_only=True)
class Opener:
    """Opens one sealed model."""

    folder: str
    seal: Seal
    key: KeptKey | AskedKey
    small: Path

    def open(self, fault: str, chance: random.Random) -> str:
        """Open the model with one fault; returns the outcome."""
        _plan.value = (fault, chance)
        try:
            with (
                self.key.arriving(fault, chance) as keys,
                PlaintextMemory(opening.plan_sizes(self.seal)) as memory,
            ):
                source = open_source(self.folder)
                placement = opening.decrypt_all(self.seal, source, lambda: keys, memory, threads=1)
                if fault == "enospc":
                    self._deliver(memory, placement)
                memory.seal()
        except ModelsealError as error:
            return type(error).__name__
        return "opened"

    def _deliver(self, memory: PlaintextMemory, placement: opening.Placement) -> None:
        """Let the kernel say that there is no room, after it has taken a part."""
        manifest = self.seal.manifest
        status = Status(delivery=Delivery.TMPFS, model=manifest.model, since=datetime.now(UTC))
        volume = self.small / threading.current_thread().name
        volume.mkdir(exist_ok=True)
        model = handover.Model(
            model=manifest.model,
            version=manifest.version,
            digest=self.seal.digest,
            size=placement.size,
            files=len(placement.entries),
        )
        parcel = Parcel(memory=memory, model=model, files=placement.entries)
        TmpfsDelivery(volume, Board(status), lambda: None, private=True).deliver(parcel, 60.0)


def state() -> dict[str, Any]:
    """Return what this process holds."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "memfds": maps.count("/memfd:"),
        "threads": threading.active_count(),
    }


def main() -> None:
    """Open as often as asked for."""
    folder, key, model, count, seed, small = sys.argv[1:]
    trust = opening.Trust(signers=(), allow_unsigned=True, policy=Policy(model=model))
    seal = opening.read_manifest(open_source(folder), trust, datetime.now(UTC))
    asked = key.startswith("vault")
    keys = None if asked else opening.unwrap_keys(seal, open_provider(key), model)
    arriving = KeptKey(keys) if keys else AskedKey(seal, key, model)
    opener = Opener(folder=folder, seal=seal, key=arriving, small=Path(small))
    os.preadv = faulty_preadv  # type: ignore[assignment]
    outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    work, guard = iter(range(int(count))), threading.Lock()

    def serve() -> None:
        while True:
            with guard:
                number = next(work, None)
            if number is None:
                return
            chance = random.Random(f"{seed}-{number}")  # noqa: S311 - a plan, no secret
            fault = chance.choice(FAULTS)
            outcome = opener.open(fault, chance)
            with guard:
                outcomes[fault][outcome] += 1

    before = state()
    threads = [threading.Thread(target=serve) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if keys:
        keys.wipe()
    json.dump({"before": before, "after": state(), "outcomes": outcomes}, sys.stdout)
    print(flush=True)  # noqa: T201 - the end of the line that the test reads
    sys.stdin.read()


if __name__ == "__main__":
    main()
