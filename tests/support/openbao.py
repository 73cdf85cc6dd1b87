"""A real OpenBao server for tests, and an administrator's hand on it."""

import contextlib
import http.client
import itertools
import json
import secrets
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelseal.cli.story.openbao import OpenBao, program
from modelseal.keys import TokenAuth, VaultSettings
from modelseal.secret import Secret
from support.agent_peer import until

_names = itertools.count()


@dataclass(kw_only=True)
class KeyService:
    """One running server; every test makes mounts and keys of its own on it."""

    server: OpenBao
    folder: Path

    @property
    def address(self) -> str:
        """The server's address."""
        return self.server.address

    @property
    def ca_file(self) -> Path:
        """The CA that signed the server's certificate."""
        return self.server.ca_file

    @property
    def certificate(self) -> Path:
        """The server's certificate, which is good for 127.0.0.1."""
        return self.folder / "vault-cert.pem"

    @property
    def private_key(self) -> Path:
        """The certificate's private key."""
        return self.folder / "vault-key.pem"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make one request as root."""
        return self.server.call(method, path, body)

    def ask(
        self, token: str | None, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Make one request with a token, whatever the answer is."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.server.port, timeout=10, context=context
        )
        with contextlib.closing(connection):
            headers = {"X-Vault-Token": token} if token else {}
            content = json.dumps(body) if body is not None else None
            connection.request(method, f"/v1/{path}", content, headers)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data else {}

    def name(self, prefix: str = "t") -> str:
        """Return a name that nobody else uses."""
        return f"{prefix}{next(_names)}{secrets.token_hex(3)}"

    def transit(self, key: str = "models") -> str:
        """Mount a transit engine with a derived key; returns the mount's name."""
        mount = self.name("transit")
        self.call("POST", f"sys/mounts/{mount}", {"type": "transit"})
        self.call("POST", f"{mount}/keys/{key}", {"type": "aes256-gcm96", "derived": True})
        return mount

    def kv(self) -> str:
        """Mount a KV engine of version 2; returns the mount's name once it takes secrets."""
        mount = self.name("kv")
        self.call("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}})
        # it answers before it has finished what it calls an upgrade
        until(lambda: self.ask(self.server.root_token, "GET", f"{mount}/data/none")[0] == 404)
        return mount

    def token(self, *policies: str, ttl: str = "1h") -> str:
        """Return a token that has these policies and no other."""
        made = self.call(
            "POST",
            "auth/token/create",
            {"policies": list(policies), "no_default_policy": True, "ttl": ttl, "no_parent": True},
        )
        token: str = made["auth"]["client_token"]
        return token

    def policy(self, text: str) -> str:
        """Write a policy; returns its name."""
        name = self.name("policy")
        self.call("PUT", f"sys/policies/acl/{name}", {"policy": text})
        return name

    def settings(self, token: str | None = None) -> VaultSettings:
        """Return how the library reaches this server with a token, or with root's."""
        value = (token or self.server.root_token).encode()
        return VaultSettings(
            address=self.address,
            ca_file=self.ca_file,
            auth=TokenAuth(read=lambda: Secret(value)),
        )

    def paste(self, text: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run commands as an administrator would: pasted into a shell that has `bao`."""
        path = self.folder / "bin"
        path.mkdir(exist_ok=True)
        if not (path / "bao").exists():
            (path / "bao").symlink_to(program())
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            check=check,
            capture_output=True,
            text=True,
            timeout=60,
            env={
                "PATH": f"{path}:/usr/bin:/bin",
                "HOME": str(self.folder),
                "BAO_ADDR": self.address,
                "BAO_CACERT": str(self.ca_file),
                "BAO_TOKEN": self.server.root_token,
            },
        )


def hcl(path: str, capabilities: Sequence[str] = ("update",)) -> str:
    """Return a one-rule policy."""
    listed = ", ".join(f'"{each}"' for each in capabilities)
    return f'path "{path}" {{\n  capabilities = [{listed}]\n}}\n'
