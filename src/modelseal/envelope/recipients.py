"""Recipients: wrapped copies of the data key (docs/format.md, section 6).

They are unsigned and may be written by anyone, so a reader only compares them with its own
configuration. Nothing in them names a place to connect to or a cost to spend.
"""

from dataclasses import dataclass
from typing import Final

MAX_KEY_LENGTH: Final = 512
MAX_WRAPPED_LENGTH: Final = 4096


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """One wrapped copy of the data key.

    `kind` names the way of wrapping: `vault-transit`, `vault-kv`, `file` or `passphrase`; `key`
    names the key in that way's own terms; `wrapped` is text that only that way understands.
    """

    kind: str
    key: str
    wrapped: str
