"""The hardened client for Vault and OpenBao; the only module that knows hvac.

hvac follows redirects with the token in hand, honours ambient proxies, CA bundles and tokens, never
tries again, and puts bodies into exceptions. Here hvac only words the requests; a connection of
ours without environment, redirects or ambient token carries each of them, with timeouts, bounded
tries and bounded answers, and what comes back is classified by `answers`.
"""

import ipaddress
import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import hvac
from hvac.adapters import RawAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from modelseal import tls
from modelseal.contract import MAX_TOKEN_TTL
from modelseal.errors import (
    KeyAccessDenied,
    KeyServiceError,
    KeyServiceProtocolError,
    KeyServiceUnavailable,
    KeyServiceUntrusted,
    ModelsealError,
    SettingsError,
    shown,
)
from modelseal.keys.answers import RETRIED, TOO_MANY, Answer, read_answer, request_id
from modelseal.keys.settings import AppRoleAuth, JwtAuth, TokenAuth, VaultSettings
from modelseal.keys.wire import Patience, Wire, WireError, WireTimeout, WireTooLong, WireUntrusted
from modelseal.secret import Secret

TRIES: Final = 4
PATIENCE: Final = Patience(connect=3.05, read=10.0, answer=30.0)
MAX_RETRY_AFTER: Final = 5.0
_FIRST_PAUSE: Final = 0.2
_Result = TypeVar("_Result")
Conversation = Any
"""What a call is made on; named here so that hvac stays in this module."""


class VaultClient:
    """A logged-in conversation with one key service; calls are serialised."""

    def __init__(
        self,
        settings: VaultSettings,
        *,
        pause: Callable[[float], object] = time.sleep,
        patience: Patience = PATIENCE,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            settings: the server and the way in.
            pause: waits that many seconds between tries.
            patience: how long each step of a try may take.

        Raises:
            SettingsError: the address or the CA makes no sense.

        """
        _require_address(settings.address)
        self._settings: Final = settings
        self._lock: Final = threading.RLock()
        self._adapter: Final = _Adapter(
            base_uri=settings.address,
            token="",
            namespace=settings.namespace,
        )
        self._adapter.pause = pause
        self._adapter.busy_seconds = settings.busy_seconds
        self._adapter.wire = Wire(
            settings.address, context=_context(settings.ca_file), patience=patience
        )
        self._hvac: Final = hvac.Client(
            url=settings.address, token="", adapter=_given(self._adapter)
        )
        self._expires: datetime | None = None

    @property
    def last_id(self) -> str | None:
        """The id under which the key service's audit log has its last good answer."""
        return self._adapter.last_id

    @property
    def expires(self) -> datetime | None:
        """When the token ends (UTC), as far as is known."""
        return self._expires

    def login(self) -> None:
        """Obtain a token, afresh; one that is still good is kept while there is no new one.

        A key service whose API server is away refuses logins as if the account were gone, or does
        not answer them in time, so a login that fails withdraws nothing before the token that is
        there ends.

        Raises:
            ModelsealError: refused, twice, or not reachable, and there is no good token.

        """
        with self._lock:
            token, expires = self._adapter.token, self._expires
            try:
                self._log_in_twice()
            except ModelsealError:
                self._adapter.token, self._expires = token, expires
                if not token or self._expired():
                    raise

    def _log_in_twice(self) -> None:
        try:
            self._log_in()
        except KeyAccessDenied:
            self._log_in()

    def ask(self, call: Callable[[Conversation], _Result]) -> _Result:
        """Make one call with a valid token; a refusal is confirmed once after a fresh login.

        Raises:
            KeyServiceError, KeyRefused, UnwrapError: as `answers` says.

        """
        with self._lock:
            if not self._adapter.token or self._expired():
                self._log_in_twice()
            try:
                return call(self._hvac)
            except KeyAccessDenied:
                self._log_in_twice()
                return call(self._hvac)

    def _expired(self) -> bool:
        return self._expires is not None and datetime.now(UTC) >= self._expires

    def _log_in(self) -> None:
        auth = self._settings.auth
        self._adapter.token = ""
        self._expires = None
        with auth.read() as credential:
            text = _text(credential)
            if isinstance(auth, TokenAuth):
                self._adapter.token = text
                return
            answer = self._exchange(auth, text)
        token, seconds = _token(answer)
        self._adapter.token = token
        lifetime = min(seconds, MAX_TOKEN_TTL) if seconds else MAX_TOKEN_TTL
        self._expires = datetime.now(UTC) + timedelta(seconds=lifetime)

    def _exchange(self, auth: AppRoleAuth | JwtAuth, credential: str) -> dict[str, Any]:
        if isinstance(auth, AppRoleAuth):
            body = {"role_id": auth.role_id, "secret_id": credential}
        else:
            body = {"role": auth.role, "jwt": credential}
        path = f"/v1/auth/{auth.mount}/login"
        return self._adapter.request("post", path, json=body)


class _Adapter(RawAdapter):  # type: ignore[misc] # hvac has no types
    """hvac's way to the network, in place of its own: bounded tries, and our own errors."""

    wire: Wire
    pause: Callable[[float], object] = staticmethod(time.sleep)
    busy_seconds: float = 0.0
    last_id: str | None = None

    def request(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        params: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Ask until there is an answer that a new try would not change."""
        login = url.startswith("/v1/auth/") and url.endswith("/login")
        path = f"{url}?{urlencode(params)}" if params else url
        sent = None if json is None else _encoded(json)
        told = {**self._headers(body=sent is not None), **(headers or {})}
        attempt, busy = 1, 0.0
        while True:
            counts, wait = True, _jittered(attempt)
            try:
                reply = self.wire.ask(method.upper(), path, told, sent)
            except WireError as error:
                failure = _unreachable(error)
                if attempt == TRIES or type(failure) is not KeyServiceUnavailable:
                    raise failure from None
            else:
                counts = reply.status != TOO_MANY or busy >= self.busy_seconds
                if reply.status not in RETRIED or (counts and attempt == TRIES):
                    document = read_answer(
                        Answer(status=reply.status, body=reply.body, login=login)
                    )
                    self.last_id = request_id(document)
                    return document
                wait = max(wait, _seconds(reply.retry_after))
            self.pause(wait)
            attempt, busy = (attempt + 1, busy) if counts else (attempt, busy + wait)

    def _headers(self, *, body: bool) -> dict[str, str]:
        named = {
            "X-Vault-Request": "true",
            "X-Vault-Token": self.token,
            "X-Vault-Namespace": self.namespace,
            "Content-Type": "application/json" if body else None,
        }
        return {name: value for name, value in named.items() if value}


def _encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def _given(adapter: _Adapter) -> Callable[..., _Adapter]:
    """Return what hvac calls to make its adapter; it gets ours."""
    return lambda **_: adapter


def _context(ca_file: Path | None) -> ssl.SSLContext:
    """Trust the CA that is configured; else the public ones that `requests` brings."""
    try:
        return tls.trusting(ca_file or Path(DEFAULT_CA_BUNDLE_PATH))
    except OSError as error:
        raise SettingsError(
            f"failed to read the key service's CA {shown(str(ca_file))}: {_cause(error)}"
        ) from None


def _cause(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return "not a certificate" if isinstance(error, ssl.SSLError) else "not readable"


def _require_address(address: str) -> None:
    """Refuse what is no address, and plain HTTP to another machine, which would show the token."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        usable = parts.scheme in ("https", "http") and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        host, usable = "", False
    if not usable or not host:
        raise SettingsError(
            f"failed to read the key service's address {shown(address.rpartition('@')[2])}",
            hint="write https://HOST:PORT",
        )
    if parts.scheme == "http" and not _is_loopback(host):
        raise SettingsError(
            "failed to use the key service's address: without TLS everybody on the way reads keys",
            hint="write https://, and give the CA that signed its certificate",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unreachable(error: WireError) -> KeyServiceError:
    """Name what failed on the way, without the address or anything that was sent."""
    if isinstance(error, WireTooLong):
        return KeyServiceProtocolError("failed to use the key service: its answer is too long")
    if isinstance(error, WireUntrusted):
        return KeyServiceUntrusted(
            "failed to reach the key service: its certificate is not trusted or not for this host"
        )
    if isinstance(error, WireTimeout):
        return KeyServiceUnavailable("failed to reach the key service: it does not answer in time")
    return KeyServiceUnavailable("failed to reach the key service: the connection fails")


def _seconds(retry_after: str) -> float:
    decimal = retry_after.isascii() and retry_after.isdecimal()
    return min(float(retry_after), MAX_RETRY_AFTER) if decimal else 0.0


def _jittered(attempt: int) -> float:
    """Return the pause after a try in seconds: doubling, between half and the whole of it."""
    pause: float = _FIRST_PAUSE * 2 ** (attempt - 1)
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, protects nothing


def _text(credential: Secret) -> str:
    try:
        text = credential.buffer.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if not _is_credential(text):
        raise SettingsError("failed to log in to the key service: the credential is not a text")
    return text


def _is_credential(text: str) -> bool:
    """Whether a text can be sent as it is, without changing the request."""
    return bool(text) and text.isascii() and text.isprintable()


def _token(answer: dict[str, Any]) -> tuple[str, int]:
    auth = answer.get("auth")
    token = auth.get("client_token") if isinstance(auth, dict) else None
    seconds = auth.get("lease_duration") if isinstance(auth, dict) else None
    if not isinstance(token, str) or type(seconds) is not int or not _is_credential(token):
        raise KeyServiceProtocolError("failed to log in to the key service: no token came back")
    return token, seconds
