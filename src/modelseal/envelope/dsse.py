"""DSSE's pre-authentication encoding (docs/format.md, section 4.1)."""


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed, and what the manifest's MAC covers: PAE, version 1."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
