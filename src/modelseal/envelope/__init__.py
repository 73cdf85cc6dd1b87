"""The sealed format `modelseal/1` (docs/format.md): parse, verify, decrypt, seal.

This package reads and writes no file but the output folder of `seal_files`; ciphertext comes
through `Payload`, plaintext to be sealed through `PlainFile`.

    manifest.py   seal.json: strict parser, values          strict.py   JSON, strictly
    signing.py    signatures, local signing keys            dsse.py     what is signed
    policy.py     what a reader demands                     public_key.py  pinned signers
    derive.py     keys from the data key, contexts          recipients.py  wrapped data keys
    floe.py       the payload's cipher                      payload.py  reading payloads
    index.py      the encrypted index                       sealing.py  writing a sealed model
"""

from modelseal.envelope.derive import DataKeys, kek_context, verify_mac
from modelseal.envelope.index import Index, IndexEntry, encode_index, parse_index
from modelseal.envelope.manifest import (
    Envelope,
    FileEntry,
    Manifest,
    Seal,
    Signature,
    encode_seal,
    parse_seal,
    replace_recipients,
    valid_model_name,
)
from modelseal.envelope.payload import decrypt_payload, verify_digest, verify_payload
from modelseal.envelope.policy import Policy, check_policy
from modelseal.envelope.public_key import PublicKey, parse_signer
from modelseal.envelope.recipients import Recipient
from modelseal.envelope.sealing import PlainFile, seal_files
from modelseal.envelope.signing import LocalSigner, verify_signature

__all__ = [
    "DataKeys",
    "Envelope",
    "FileEntry",
    "Index",
    "IndexEntry",
    "LocalSigner",
    "Manifest",
    "PlainFile",
    "Policy",
    "PublicKey",
    "Recipient",
    "Seal",
    "Signature",
    "check_policy",
    "decrypt_payload",
    "encode_index",
    "encode_seal",
    "kek_context",
    "parse_index",
    "parse_seal",
    "parse_signer",
    "replace_recipients",
    "seal_files",
    "valid_model_name",
    "verify_digest",
    "verify_mac",
    "verify_payload",
    "verify_signature",
]
