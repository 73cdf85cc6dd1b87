"""A sealed model behind HTTP(S), read in ranges.

An object is pinned by its length and, where the server names one, its strong ETag: each range has
to be of the same object as the first. Redirects are not followed, so that credentials and trust
stay with the address that was configured; nothing is taken from the environment.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

import urllib3
from urllib3.util import Retry, Timeout

from modelseal import tls
from modelseal.contract import MAX_SEAL_BYTES, SEAL_NAME
from modelseal.errors import (
    LimitExceeded,
    NotSealed,
    SettingsError,
    SourceChanged,
    SourceDenied,
    SourceError,
    SourceNotFound,
    SourceUnavailable,
    TrailingData,
    TruncatedError,
    shown,
)

TRIES: Final = 4
MAX_RETRY_AFTER: Final = 10
POOL_SIZE: Final = 16
_RETRIED: Final = (408, 429, 500, 502, 503, 504)
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,16})-(\d{1,16})/(\d{1,16})")
_STRONG_ETAG: Final = re.compile(r'"[\x21\x23-\x7e]{1,256}"')
_IDENTITY: Final = {"Accept-Encoding": "identity"}


class HttpSource:
    """Objects below one address."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        token_file: Path | None = None,
        proxy: str | None = None,
        timeout: Timeout | None = None,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            url: the address of the sealed model's folder.
            ca_file: the CA to trust instead of the system's.
            token_file: holds a bearer token; read anew for each request.
            proxy: the address of a proxy, such as `http://proxy:3128`.
            timeout: of connecting and of each read; by default 5 and 30 s.

        Raises:
            SettingsError: the address, CA or proxy makes no sense.

        """
        self._url: Final = _checked(url)
        self._token_file: Final = token_file
        self._pool: Final = _pool(ca_file, proxy, timeout or Timeout(connect=5.0, read=30.0))

    def read_seal(self) -> bytes:
        """Return `seal.json`; see `Source.read_seal`."""
        try:
            response = self.get(SEAL_NAME)
        except SourceNotFound as error:
            raise NotSealed(f"failed to open {self.describe()}: no {SEAL_NAME} there") from error
        data = _read(response, MAX_SEAL_BYTES + 1)
        if len(data) > MAX_SEAL_BYTES:
            raise LimitExceeded(f"failed to read {SEAL_NAME}: longer than {MAX_SEAL_BYTES} bytes")
        return data

    def open_payload(self, name: str, length: int) -> "HttpPayload":
        """Ask for the object's length and identity; see `Source.open_payload`."""
        return HttpPayload(self, name, length)

    def describe(self) -> str:
        """Return the address without credentials, query or fragment."""
        return shown(urlunsplit((self._url.scheme, _host(self._url), self._url.path, "", "")))

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def get(self, name: str, headers: Mapping[str, str] | None = None) -> urllib3.BaseHTTPResponse:
        """Ask for one object, with bounded tries.

        Raises:
            SourceError: no usable answer.

        """
        path = f"{self._url.path.rstrip('/')}/{name}"
        address = urlunsplit((self._url.scheme, self._url.netloc, path, self._url.query, ""))
        sent = {**_IDENTITY, **self._credentials(), **(headers or {})}
        try:
            response = self._pool.request(
                "GET", address, headers=sent, preload_content=False, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(name, error) from None
        if response.status in (200, 206):
            return response
        response.drain_conn()
        raise _refused(name, response.status)

    def _credentials(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            token = self._token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            token = ""
        if not token or not token.isprintable():
            raise SourceDenied("failed to read the source's token: no readable text in its file")
        return {"Authorization": f"Bearer {token}"}


class HttpPayload:
    """One object, pinned to its length and identity."""

    def __init__(self, source: HttpSource, name: str, length: int) -> None:
        self._source: Final = source
        self._name: Final = name
        self._length: Final = length
        self._etag: Final = self._pin()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer; see `Payload.read_into`."""
        done = 0
        for attempt in range(1, TRIES + 1):
            try:
                done += self._read_range(offset + done, buffer[done:])
            except urllib3.exceptions.HTTPError as error:
                if attempt == TRIES:
                    raise _unreachable(self._name, error) from None
            if done == len(buffer):
                return
        raise SourceUnavailable(f"failed to read {shown(self._name)}: the answers are too short")

    def close(self) -> None:
        """Nothing is held open."""

    def _pin(self) -> str | None:
        response = self._source.get(self._name, {"Range": "bytes=0-0"})
        response.drain_conn()
        if response.status != 206:
            raise SourceUnavailable(
                f"failed to open {shown(self._name)}: the server does not send ranges",
                hint="use a server that supports range requests",
            )
        total = _content_range(self._name, response)[2]
        if total != self._length:
            kind = TruncatedError if total < self._length else TrailingData
            raise kind(
                f"failed to open {shown(self._name)}: it has {total} bytes, {self._length} signed"
            )
        return _etag(response)

    def _read_range(self, start: int, buffer: memoryview) -> int:
        """Read one range; returns the bytes that came."""
        end = start + len(buffer) - 1
        headers = {"Range": f"bytes={start}-{end}"}
        if self._etag is not None:
            headers["If-Range"] = self._etag
        response = self._source.get(self._name, headers)
        try:
            found = _content_range(self._name, response)
            if found != (start, end, self._length) or _etag(response) != self._etag:
                raise SourceChanged(f"failed to read {shown(self._name)}: it changed meanwhile")
            return _read_into(response, buffer)
        finally:
            response.release_conn()


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        usable = usable and parts.port != 0 and not parts.fragment
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"failed to read the source {shown(url)}: not an http(s) address")
    if parts.username or parts.password:
        raise SettingsError(
            "failed to read the source: its address holds credentials",
            hint="put a bearer token into a file and name that file",
        )
    return parts


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _pool(ca_file: Path | None, proxy: str | None, timeout: Timeout) -> urllib3.PoolManager:
    retries = Retry(
        total=TRIES - 1,
        redirect=0,
        status_forcelist=_RETRIED,
        backoff_factor=0.2,
        backoff_jitter=0.2,
        backoff_max=5.0,
        raise_on_status=False,
        retry_after_max=MAX_RETRY_AFTER,
    )
    try:
        context = tls.trusting(ca_file)
        if proxy:
            return urllib3.ProxyManager(
                proxy,
                proxy_ssl_context=tls.trusting(None),
                maxsize=POOL_SIZE,
                retries=retries,
                timeout=timeout,
                ssl_context=context,
            )
        return urllib3.PoolManager(
            maxsize=POOL_SIZE, retries=retries, timeout=timeout, ssl_context=context
        )
    except OSError:
        raise SettingsError(f"failed to read the source's CA {shown(str(ca_file))}") from None
    except (urllib3.exceptions.HTTPError, ValueError):
        raise SettingsError("failed to read the source's proxy: not an address") from None


def _read(response: urllib3.BaseHTTPResponse, limit: int) -> bytes:
    try:
        return bytes(response.read(limit, decode_content=False))
    except urllib3.exceptions.HTTPError as error:
        raise _unreachable(SEAL_NAME, error) from None
    finally:
        response.close()


def _read_into(response: urllib3.BaseHTTPResponse, buffer: memoryview) -> int:
    done = 0
    while done < len(buffer):
        count = response.readinto(buffer[done:])
        if not count:
            break
        done += count
    return done


def _content_range(name: str, response: urllib3.BaseHTTPResponse) -> tuple[int, int, int]:
    """Return first, last and total; the whole object instead of a range is another one's."""
    if response.status != 206:
        raise SourceChanged(f"failed to read {shown(name)}: it changed meanwhile")
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or response.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceUnavailable(f"failed to read {shown(name)}: the server's range is malformed")
    return int(match[1]), int(match[2]), int(match[3])


def _etag(response: urllib3.BaseHTTPResponse) -> str | None:
    """Return a strong ETag; a weak one says nothing about bytes."""
    value = response.headers.get("ETag", "")
    return value if _STRONG_ETAG.fullmatch(value) else None


def _refused(name: str, status: int) -> SourceError:
    text = f"failed to read {shown(name)}: HTTP {status}"
    if status in (404, 410):
        return SourceNotFound(text)
    if status in (401, 403, 407):
        return SourceDenied(text)
    if status == 416:
        return SourceChanged(text)
    if 300 <= status < 400:
        return SourceUnavailable(
            text, hint="give the address that it redirects to; redirects are not followed"
        )
    return SourceUnavailable(text)


def _unreachable(name: str, error: Exception) -> SourceUnavailable:
    cause = getattr(error, "reason", error)
    if isinstance(cause, urllib3.exceptions.SSLError):
        return SourceUnavailable(
            f"failed to read {shown(name)}: the server's certificate is not trusted",
            hint="give the CA that signed it",
        )
    return SourceUnavailable(f"failed to read {shown(name)}: the connection fails")
