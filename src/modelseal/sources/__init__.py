"""Places of ciphertext: one interface, one file for each kind."""

from pathlib import Path

from modelseal.errors import SettingsError, shown
from modelseal.sources.folder import FolderSource
from modelseal.sources.interface import Payload, Source

__all__ = ["FolderSource", "Payload", "Source", "open_source"]


def open_source(
    uri: str,
    *,
    ca_file: Path | None = None,
    token_file: Path | None = None,
    proxy: str | None = None,
) -> Source:
    """Return the source that `uri` names: a path, or an address that begins with http(s)://.

    Raises:
        SettingsError: the address makes no sense.

    """
    if "://" not in uri and "\0" not in uri:
        return FolderSource(Path(uri))
    if uri.startswith(("http://", "https://")):
        from modelseal.sources.http import HttpSource  # noqa: PLC0415 - needs the extra `http`

        return HttpSource(uri, ca_file=ca_file, token_file=token_file, proxy=proxy)
    raise SettingsError(
        f"failed to read the source {shown(uri)}: unknown kind",
        hint="give a path, or an address that begins with https:// or http://",
    )
