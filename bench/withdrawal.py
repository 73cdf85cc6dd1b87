"""How soon a model is unloaded when the right to it ends: distributions on a real cluster.

One model with ten pods on kind; each way to withdraw it gives ten figures, from before the
administrator's request until each pod's runtime process has ended. The node's processes are this
machine's, so their ends are seen by their process descriptors, to the millisecond.

`MODELSEAL_BENCH_WAYS='KV|digest'` measures the ways alone whose names match, and keeps the figures
of the others as they were found before.
"""

import json
import os
import re
import secrets
import selectors
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from bench.findings import Curves, Effort, Findings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from modelseal.cli.leaks import processes
from support import kind, kind_openbao
from support.images import Images, build_images
from support.kind_operator import install
from support.kind_place import Place, is_ready
from support.kind_withdrawals import (
    CUT_OFF,
    INTERVAL,
    MAX_STALE,
    TOKEN_SECONDS,
    WITH_TOKENS,
    WITHDRAWALS,
    Withdrawal,
    expiring,
    provide,
    shorten_tokens,
)

TITLE = "Withdrawal"
PODS = 10
NAMESPACE = "withdrawal"
EXPIRES = 150.0
"""Seconds until the end of a seal that is made to end: ten pods have to be ready before."""
SELECTOR = "modelseal.dev/model=filetype"
WAYS = "MODELSEAL_BENCH_WAYS"
EXPIRY = "notAfter passed"
ROOT = Path(__file__).resolve().parents[1]
ALL = (*WITHDRAWALS, WITH_TOKENS, CUT_OFF)
_LABEL = re.compile(r"(.+) \(bound ([0-9.]+) s\)")
Ends = Sequence[float]
Measured = dict[str, tuple[float, Ends]]
"""The bound of each way, and the seconds that each pod took."""


class Make(Protocol):
    """Makes a place."""

    def __call__(self, name: str, *, kv: bool) -> Place:
        """Return a place in a namespace of this name."""


def measure(effort: Effort) -> Findings:
    """Withdraw the model in every way; a round gives a figure for each pod."""
    if lacking := kind.missing():
        sys.exit(f"this question needs a cluster: {lacking}")
    rounds = max(1, effort.rounds // 7)
    wanted = re.compile(os.environ.get(WAYS, ""))
    ways = [way for way in ALL if wanted.search(way.name)]
    measured = kept() if WAYS in os.environ else {}
    with tempfile.TemporaryDirectory() as name, cluster(Path(name)) as make:
        for kv in (False, True):
            if own := [way for way in ways if way.kv is kv]:
                with served(make, kv=kv) as place:
                    measured |= {way.name: (way.bound, _all(place, way, rounds)) for way in own}
        if wanted.search(EXPIRY):
            with served(make, kv=False) as place:
                way, ends = expired(place)
                measured[way.name] = (way.bound, ends)
    return found(measured)


def kept() -> Measured:
    """Return what an earlier session found, out of its plots."""
    data = json.loads((ROOT / "docs/performance/withdrawal.json").read_text())
    measured: Measured = {}
    for label, points in (line for each in data["curves"] for line in each["lines"].items()):
        match = _LABEL.fullmatch(label)
        assert match is not None, label
        measured[match[1]] = (float(match[2]), [end for end, _ in points])
    return measured


def _all(place: Place, way: Withdrawal, rounds: int) -> Ends:
    return [end for _ in range(rounds) for end in withdrawn(place, way)]


@contextmanager
def cluster(folder: Path) -> Iterator[Make]:
    """Start a cluster with key service and operator; yields how a place is made there."""
    images = build_images()
    with kind.running("modelseal-bench") as found:
        assert found.node is not None, "the node's processes have to be this machine's"
        images = Images.named(found.load(*images.all()))
        with kind_openbao.running(found.kube, images.openbao, folder) as bao:
            install(found.kube, images)

            def make(name: str, *, kv: bool) -> Place:
                (folder / name).mkdir()
                return Place(
                    cluster=found,
                    bao=bao,
                    kube=found.kube.at(name),
                    folder=folder / name,
                    python_image=images.agent,
                    kv=kv,
                )

            yield make


@contextmanager
def served(make: Make, *, kv: bool) -> Iterator[Place]:
    """Serve one model with ten pods in a place of its own."""
    place = make(f"{NAMESPACE}-{secrets.token_hex(2)}", kv=kv)
    place.open()
    try:
        provide(place)
        shorten_tokens(place)
        place.put(place.seal(), "filetype/1")
        place.apply(replicas=PODS)
        until_served(place)
        yield place
    finally:
        place.close()


def withdrawn(place: Place, way: Withdrawal) -> Ends:
    """Withdraw the model, see each runtime end, give the right back, and let new pods serve."""
    with _watched(place) as watch:
        begun = way.take(place)
        ends = watch.ends(begun, way.bound + 60)
    way.give(place)
    place.kube.run("delete", "pods", f"--selector={SELECTOR}", "--wait=true")
    until_served(place)
    return ends


def expired(place: Place) -> tuple[Withdrawal, Ends]:
    """Serve a version that ends soon, and see it end."""
    path, way = expiring(place, EXPIRES)
    place.kube.run("delete", "encryptedmodel", "filetype")
    place.kube.until("the pods are gone", lambda: not place.kube.all("pods", SELECTOR))
    place.apply(path, replicas=PODS)
    until_served(place)
    with _watched(place) as watch:
        return way, watch.ends(way.take(place), EXPIRES + 60)


def until_served(place: Place) -> None:
    """Wait until every pod is ready."""

    def all_ready() -> bool:
        pods = place.pods()
        return len(pods) == PODS and all(is_ready(pod) for pod in pods)

    place.kube.until(f"{PODS} pods are ready", all_ready, 400)


class _Watch:
    """Waits for the ends of processes."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector

    def ends(self, begun: datetime, patience: float) -> Ends:
        """Return how many seconds after `begun` each process ended."""
        found: list[float] = []
        deadline = time.monotonic() + patience
        while self._selector.get_map():
            assert time.monotonic() < deadline, f"{len(self._selector.get_map())} did not end"
            for key, _ in self._selector.select(timeout=1.0):
                found.append((datetime.now(UTC) - begun).total_seconds())
                self._selector.unregister(key.fileobj)
        return found


@contextmanager
def _watched(place: Place) -> Iterator[_Watch]:
    """Yield a watch on the runtimes of all pods."""
    uids = [pod["metadata"]["uid"] for pod in place.pods()]
    pids = [pid for pid in processes.running() if processes.role(pid, uids) == processes.RUNTIME]
    assert len(pids) == PODS, pids
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for pid in pids:
            descriptor = os.pidfd_open(pid)
            stack.callback(os.close, descriptor)
            selector.register(descriptor, selectors.EVENT_READ)
        yield _Watch(selector)


def found(measured: Measured) -> Findings:
    """Return the table and the plots of what was measured."""
    lines = [
        "| withdrawn by | n | least | median | most | bound |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, (bound, ends) in measured.items():
        figures = (min(ends), statistics.median(ends), max(ends))
        told = " | ".join(f"{each:.1f} s" for each in figures)
        kept = "" if max(ends) <= bound else " **missed**"
        lines.append(f"| {name} | {len(ends)} | {told} | {bound:g} s{kept} |")
    return Findings(
        curves=[
            _curves("checked", "Ways that the next check sees", measured, below=15),
            _curves("later", "Ways that take effect later", measured, above=15),
        ],
        notes=["\n".join(lines), _NOTE],
    )


def _curves(
    file: str,
    title: str,
    measured: Measured,
    *,
    below: float = 1e9,
    above: float = 0.0,
) -> Curves:
    """Return the share of pods that had unloaded the model, over time."""
    lines = {
        f"{name} (bound {bound:g} s)": [
            (end, (number + 1) / len(ends)) for number, end in enumerate(sorted(ends))
        ]
        for name, (bound, ends) in measured.items()
        if above <= statistics.median(ends) < below
    }
    return Curves(
        name=file,
        title=title,
        x="seconds from the withdrawal to the end of the runtime",
        y="share of pods",
        lines=lines,
    )


_NOTE = f"""Each figure is one pod: from before the administrator's request, or from
`notAfter`, to the end of its runtime process, with which OpenVINO's copies are gone. The lease
interval is {INTERVAL} s, so a check comes after {INTERVAL * 1.2:g} s at the latest and the bound is
that and 2 s; tokens live for {TOKEN_SECONDS} s here (300 s as `modelseal policy` prints the role),
which is added where an account or a role is deleted; `maxStale` is {MAX_STALE} s. All pods of a
way are withdrawn at once on one node of two processors, where their successors start while the
last ones end. The ways with KV and the list of digests were measured in sessions of their own."""
