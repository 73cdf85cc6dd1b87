"""Service account tokens as an API server would sign them, with a key made here."""

import base64
import json
import time
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

ISSUER: Final = "https://kubernetes.default.svc"
_COORDINATE: Final = 32


@dataclass(kw_only=True)
class Issuer:
    """Who signs service account tokens (ES256)."""

    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @property
    def public_pem(self) -> str:
        """The public key that a key service is given."""
        encoded = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return encoded.decode()

    def token(
        self,
        namespace: str,
        name: str,
        audience: str,
        *,
        seconds: float = 600,
        uid: str = "3f0c2b4e-0000-4000-8000-000000000001",
    ) -> str:
        """Return a projected token of a service account; negative `seconds` make an old one."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": [audience],
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "iat": now - 700,
            "nbf": now - 700,
            "exp": int(now + seconds),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": uid},
            },
        }
        return self.sign(claims)

    def sign(self, claims: dict[str, Any]) -> str:
        """Return the compact form of a signed token."""
        head = {"alg": "ES256", "typ": "JWT", "kid": "test"}
        text = ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
        signature = self.key.sign(text.encode(), ec.ECDSA(SHA256()))
        numbers = utils.decode_dss_signature(signature)
        raw = b"".join(number.to_bytes(_COORDINATE, "big") for number in numbers)
        return f"{text}.{_encoded(raw)}"

    def verifies(self, token: str) -> bool:
        """Whether this issuer signed the token."""
        text, _, encoded = token.rpartition(".")
        raw = base64.urlsafe_b64decode(encoded + "==")
        if len(raw) != 2 * _COORDINATE:
            return False
        r, s = (int.from_bytes(raw[at : at + _COORDINATE], "big") for at in (0, _COORDINATE))
        try:
            self.key.public_key().verify(
                utils.encode_dss_signature(r, s), text.encode(), ec.ECDSA(SHA256())
            )
        except (InvalidSignature, ValueError):
            return False
        return True


def claims_of(token: str) -> dict[str, Any]:
    """Return a token's claims, unverified."""
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return found


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
