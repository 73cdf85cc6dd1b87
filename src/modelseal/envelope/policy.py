"""What a reader demands of a signed identity before any key is asked for (section 9).

Names and pins come from the reader's configuration, never from the file.
"""

import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from modelseal import contract
from modelseal.envelope.manifest import Seal, valid_model_name
from modelseal.errors import (
    Expired,
    PolicyViolation,
    RollbackRejected,
    SettingsError,
    shown,
)

_DIGEST: Final = re.compile(re.escape(contract.DIGEST_PREFIX) + "[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The demanded name, and optionally a pinned digest or a lowest sequence.

    Raises:
        SettingsError: a demand is not well-formed, so that no seal could meet it.

    """

    model: str
    digest: str | None = None
    """`sha256:` and 64 lower hexadecimal digits: the SHA-256 of the signed payload."""
    min_sequence: int | None = None
    allowed: frozenset[str] = frozenset()
    """Digests, written as `digest` is; where there are any, only these are accepted."""

    def __post_init__(self) -> None:
        if not valid_model_name(self.model):
            raise SettingsError(
                f"failed to use the model name {shown(self.model)}: it is not OWNER/NAME",
                hint="lower-case letters, digits, dots and dashes, such as vision/filetype",
            )
        for digest in (*self.allowed, *([] if self.digest is None else [self.digest])):
            if _DIGEST.fullmatch(digest) is None:
                raise SettingsError(
                    f"failed to use the digest {shown(digest)}: it is not sha256:HEX",
                    hint="`modelseal inspect` shows the digest of a sealed model",
                )
        if self.min_sequence is not None and self.min_sequence < 0:
            raise SettingsError("failed to use the minimum sequence: it is negative")


def check_policy(seal: Seal, policy: Policy, now: datetime) -> None:
    """Compare a seal with what is demanded; `now` is aware of its time zone.

    Raises:
        PolicyViolation: it is another model.
        RollbackRejected: it is not the pinned one, or older than the lowest sequence.
        Expired: its `notAfter` has passed.

    """
    manifest = seal.manifest
    if manifest.model != policy.model:
        raise PolicyViolation(
            f"failed to accept the model {shown(manifest.model)}: {policy.model} is demanded"
        )
    if policy.digest is not None and not hmac.compare_digest(seal.digest, policy.digest):
        raise RollbackRejected(
            f"failed to accept {policy.model}: its digest is {seal.digest}, not the pinned one"
        )
    if policy.allowed and seal.digest not in policy.allowed:
        raise RollbackRejected(
            f"failed to accept {policy.model}: its digest {seal.digest} is none of those allowed"
        )
    if policy.min_sequence is not None and manifest.sequence < policy.min_sequence:
        raise RollbackRejected(
            f"failed to accept {policy.model}: sequence {manifest.sequence} is below "
            f"{policy.min_sequence}"
        )
    if manifest.not_after is not None and now > manifest.not_after:
        raise Expired(f"failed to accept {policy.model}: it expired at {manifest.not_after}")
