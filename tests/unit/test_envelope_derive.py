"""Keys and contexts: the values that docs/format.md prints in section 11."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelseal import contract
from modelseal.envelope import DataKeys, kek_context
from modelseal.envelope.derive import payload_context
from modelseal.envelope.floe import GCM256_IV256_1M, Cipher
from modelseal.errors import WrappedKeyInvalid
from modelseal.keys import local
from modelseal.secret import Secret

PAGE = Path(__file__).resolve().parents[2] / "docs" / "format.md"
NAME = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", fullmatch=True)


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    block = PAGE.read_text().partition("is checked by tests/unit/test_envelope_derive.py")[2]
    lines = block.split("```")[1].strip().splitlines()
    return dict(re.split(r" {2,}", line, maxsplit=1) for line in lines)


def test_the_page_prints_what_the_library_derives(printed: dict[str, str]) -> None:
    seal_id = bytes.fromhex(printed["seal_id"])
    keys = DataKeys.from_dek(Secret(bytes.fromhex(printed["DEK"])), seal_id)
    aad = payload_context(seal_id, 1, 3, 5)
    cipher = Cipher(keys.payload, aad, bytes.fromhex(printed["IV"]), GCM256_IV256_1M)
    segment = bytearray(37)
    nonce = bytes.fromhex(printed["nonce"])
    cipher.encrypt(0, memoryview(b"hello"), memoryview(segment), final=True, nonce=nonce)
    parts = hashlib.sha256(cipher.header).digest() + hashlib.sha256(segment).digest()
    assert {
        "K_mac": keys.manifest_mac.buffer.hex(),
        "K_pay": keys.payload.buffer.hex(),
        "context": kek_context(printed["model"], seal_id).hex(),
        'mac of payload "{}"': keys.mac(contract.MANIFEST_TYPE, b"{}").hex(),
        "AAD_1 (n 3, length 5)": aad.hex(),
        "header of file 1": cipher.header.hex(),
        'segment 0 of "hello"': segment.hex(),
        "digest of file 1": hashlib.sha256(parts).hexdigest(),
    }.items() <= printed.items()


def test_the_page_prints_a_wrap_that_the_library_opens(printed: dict[str, str]) -> None:
    context = kek_context(printed["model"], bytes.fromhex(printed["seal_id"]))
    kek = Secret(bytes.fromhex(printed["KEK"]))
    wrap = base64.b64decode(printed["wrapped"])
    assert wrap[:32].hex() == printed["commitment"]
    assert wrap[32:44].hex() == printed["wrap nonce"]
    assert local.commits_to(kek, wrap)
    with local.unwrap_key(kek, wrap, context) as dek:
        assert dek.buffer.hex() == printed["DEK"]


@given(owner=NAME, name=NAME, seal_id=st.binary(min_size=32, max_size=32))
def test_a_context_is_a_pinnable_prefix_and_the_seal(owner: str, name: str, seal_id: bytes) -> None:
    context = kek_context(f"{owner}/{name}", seal_id)
    prefix = context.removesuffix(seal_id)
    assert re.fullmatch(rb"modelseal/1\x00[^\x00]+\x00{1,3}", prefix)
    assert len(prefix) % 3 == 0
    assert base64.b64encode(context).startswith(base64.b64encode(prefix))


@given(one=NAME, other=NAME)
def test_the_prefix_of_one_model_is_never_that_of_another(one: str, other: str) -> None:
    first, second = (kek_context(f"a/{name}", b"")[:200] for name in (one, other))
    assert (first.startswith(second) or second.startswith(first)) == (one == other)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_data_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(WrappedKeyInvalid, match=f"has {length} bytes"):
        DataKeys.from_dek(Secret(bytes(length)), bytes(32))


def test_keys_are_zeros_and_unusable_after_the_block() -> None:
    dek = Secret(bytes(range(32)))
    with DataKeys.from_dek(dek, bytes(32)) as keys:
        buffers = [keys.manifest_mac.buffer, keys.payload.buffer]
        assert all(any(buffer) for buffer in buffers)
    assert not any(any(buffer) for buffer in buffers)
    with pytest.raises(ValueError, match="wiped"):
        keys.mac("type", b"payload")
    assert any(dek.buffer)
