"""Whom the user trusts, from `--signer`; and one line that says what it means to name nobody."""

from collections.abc import Sequence

from modelseal.cli import console
from modelseal.envelope import Policy, PublicKey, parse_signer
from modelseal.opening import Trust

UNPINNED = (
    "no --signer: whoever may use the key could have made this model; "
    "only the key itself vouches for it"
)


def pinned(signers: Sequence[str] | None) -> tuple[PublicKey, ...]:
    """Return the public keys that were named; warns where there are none."""
    if not signers:
        console.warn(UNPINNED)
    return tuple(parse_signer(signer) for signer in signers or ())


def trust(
    signers: Sequence[str] | None, *, model: str, digest: str | None, min_sequence: int | None
) -> Trust:
    """Return what a seal must fulfil before any key is asked for."""
    keys = pinned(signers)
    policy = Policy(model=model, digest=digest, min_sequence=min_sequence)
    return Trust(signers=keys, allow_unsigned=not keys, policy=policy)
