"""`modelseal rewrap`: who may open sealed models, changed without touching what was signed."""

import collections
import contextlib
import itertools
import math
from collections.abc import Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Annotated, ClassVar, Final

import typer

from modelseal.cli import console, progress
from modelseal.cli import options as opt
from modelseal.cli.carrier import Means
from modelseal.cli.claims import PREFIX, Mirror, mirrored
from modelseal.cli.keyring import Keyring
from modelseal.cli.processes import forked
from modelseal.cli.rewrapping import Demand, Outcome, Result, find, rewrap
from modelseal.cli.trust import pinned
from modelseal.errors import KeyServiceError, ModelsealError

EXAMPLES: Final = """\
modelseal rewrap model.sealed --model me/model --key vault:transit/models
modelseal rewrap /srv/models --model 'vision/*' --key 'vault:transit/{owner}_{name}' --json
modelseal rewrap claim:vision/models --model 'vision/*' --key 'vault:transit/{owner}_{name}'
modelseal rewrap model.sealed --model me/model --key file:my.key --add vault:transit/customer
modelseal rewrap model.sealed --model me/model --key file:my.key --add passphrase: \\
    --remove file:my.key
"""

_MOST: Final = 4
"""Models that go to a process at once: fewer cost more to hand over, more are slower to stop."""

Places = Annotated[
    list[str],
    typer.Argument(
        metavar="SEALED",
        help="Sealed models, folders that hold some, https:// addresses, or "
        "claim:NAMESPACE/CLAIM/PATH for a volume of a cluster.",
    ),
]
Models = Annotated[
    list[str],
    typer.Option(
        "--model", metavar="OWNER/NAME", help="Which models are meant; vision/* is a pattern."
    ),
]
Keys = Annotated[
    list[str],
    typer.Option(
        "--key",
        metavar="PROVIDER",
        help=f"{opt.KEY_HELP} {{owner}} and {{name}} are replaced. May be repeated.",
    ),
]
Add = Annotated[
    list[str] | None,
    typer.Option("--add", metavar="PROVIDER", help="Let this key open it too. May be repeated."),
]
Remove = Annotated[
    list[str] | None,
    typer.Option("--remove", metavar="PROVIDER", help="This key opens it no more. Repeatable."),
]
RenewAll = Annotated[
    bool,
    typer.Option("--all", help="Refuse unless every recipient is renewed by one of the keys."),
]
Jobs = Annotated[
    int, typer.Option("--jobs", metavar="N", min=1, max=64, help="How many models at once.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Where seal.json of an address goes."),
]
Program = Annotated[
    str, typer.Option("--kubectl", metavar="PATH", help="Which kubectl reaches a claim's cluster.")
]
Image = Annotated[
    str | None,
    typer.Option(metavar="IMAGE", help="What mounts a claim: has python3; else the agent's."),
]
User = Annotated[
    int, typer.Option("--run-as-user", metavar="UID", min=1, help="Who may write on a claim.")
]


def command(  # noqa: PLR0913 - one argument for each option
    sealed: Places,
    *,
    model: Models,
    key: Keys,
    add: Add = None,
    remove: Remove = None,
    renew_all: RenewAll = False,
    signer: opt.Signers = None,
    output: Output = None,
    jobs: Jobs = 8,
    kubectl: Program = "kubectl",
    image: Image = None,
    run_as_user: User = 10001,
    allow_weakest: opt.AllowWeakest = False,
    json: opt.Json = False,
) -> int:
    """Change who may open sealed models; their content stays as it is.

    With --key alone, the data key is wrapped under the newest version of that key, inside the key
    service where there is one: the step between rotating a key and forbidding its old versions.
    With --add and --remove, other keys come and go. What was signed is not touched. Each new file
    is tried before it replaces the old one, and replaces it as a whole. What is on the newest
    version is left alone, so after an interruption the same command goes on. A data key that
    leaked needs a new seal instead.
    """
    keyring = Keyring()
    demand = Demand(
        models=model,
        keys=key,
        added=add or (),
        removed=remove or (),
        signers=pinned(signer),
        renew_all=renew_all,
        allow_weakest=allow_weakest,
        output=output,
        open=keyring,
    )
    means = Means(kubectl=kubectl, image=image, user=run_as_user)
    on_claims = [place for place in sealed if place.startswith(PREFIX)]
    here = [place for place in sealed if place not in on_claims]
    with contextlib.ExitStack() as stack:
        mirrors = [stack.enter_context(mirrored(place, means)) for place in on_claims]
        outcomes = _each(_found(here, mirrors), demand, keyring, jobs)
        for mirror in mirrors:
            outcomes = mirror.published(outcomes)
    _show(outcomes, json=json)
    return next((each.error.exit_code for each in outcomes if each.error), 0)


def _found(here: Sequence[str], mirrors: Sequence[Mirror]) -> list[str]:
    local = (found for place in here for found in find(place))
    mirrored_ones = (place for mirror in mirrors for place in mirror.paths)
    return list(dict.fromkeys([*local, *mirrored_ones]))


def _each(places: Sequence[str], demand: Demand, keyring: Keyring, jobs: int) -> list[Outcome]:
    """Rewrap; of many, one that fails stops nobody, a key service that is away stops what is left.

    The first one goes alone, so that a key service that does not answer is noticed before many ask.
    """
    if len(places) == 1:
        return [rewrap(places[0], demand)]
    keyring.read(demand.keys, new=False)
    keyring.read(demand.added, new=True)
    first, rest = _tried(places[0], demand), places[1:]
    if _is_away(first):
        return [first, *map(_not_tried, rest)]

    def begin() -> None:
        keyring.hang_up()
        _Worker.demand = demand

    size = min(_MOST, math.ceil(len(rest) / jobs))  # of few models, every process gets some
    shares = [rest[start : start + size] for start in range(0, len(rest), size)]
    with forked(min(jobs, len(shares)), begin) as pool:
        futures = [pool.submit(_share, share) for share in shares]
        with progress.in_steps("rewrapping", len(places)) as advance:
            advance(1)
            for future in as_completed(futures):
                outcomes = future.result()
                advance(len(outcomes))
                if any(map(_is_away, outcomes)):
                    break
    ended = [
        map(_not_tried, share) if future.cancelled() else future.result()
        for share, future in zip(shares, futures, strict=True)
    ]
    return [first, *itertools.chain.from_iterable(ended)]


class _Worker:
    """What a forked process has of its parent."""

    demand: ClassVar[Demand]


def _share(places: Sequence[str]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for place in places:
        away = any(map(_is_away, outcomes))
        outcomes.append(_not_tried(place) if away else _tried(place, _Worker.demand))
    return outcomes


def _is_away(outcome: Outcome) -> bool:
    return isinstance(outcome.error, KeyServiceError)


def _not_tried(place: str) -> Outcome:
    return Outcome(place=place, result=Result.NOT_TRIED)


def _tried(place: str, demand: Demand) -> Outcome:
    try:
        return rewrap(place, demand)
    except ModelsealError as error:
        return Outcome(place=place, result=Result.FAILED, error=error)


def _show(outcomes: Sequence[Outcome], *, json: bool) -> None:
    counts = {
        str(result): sum(each.result is result for each in outcomes)
        for result in Result
        if any(each.result is result for each in outcomes)
    }
    if json:
        console.show_json({"models": [each.fields() for each in outcomes], "counts": counts})
        return
    console.show_table(("sealed", "model", "version", "key", "result"), map(_row, outcomes))
    for each in outcomes:
        if each.error:
            console.fail(f"{console.printable(each.place)}: {each.error.message}", each.error.hint)
    for key, count in collections.Counter(
        f"{each.kind} {each.key}" for outcome in outcomes for each in outcome.unopened
    ).items():
        console.note(
            f"not allowed to unwrap with {console.printable(key)}: "
            f"the key service confirmed its own copies ({count})"
        )
    console.note(", ".join(f"{count} {result}" for result, count in counts.items()))


def _row(outcome: Outcome) -> tuple[str, ...]:
    kinds = "; ".join(f"{each.kind} {each.key}".strip() for each in outcome.recipients)
    moved = [
        f"v{old} to v{new}"
        for old, new in zip(outcome.before, outcome.after, strict=True)
        if old != new
    ]
    result = f"{outcome.result} ({', '.join(moved)})" if moved else str(outcome.result)
    if outcome.error:
        result = f"{outcome.result}: {outcome.error.reason}"
    return (outcome.place, outcome.model, outcome.version, kinds, result)
