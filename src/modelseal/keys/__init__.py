"""Key providers: one interface, one file for each kind (docs/keys.md)."""

from modelseal.keys.interface import KeyDescription, KeyProvider, Signer
from modelseal.keys.local import KeyFileProvider, PassphraseProvider, generate_key_file
from modelseal.keys.settings import AppRoleAuth, JwtAuth, TokenAuth, VaultAuth, VaultSettings
from modelseal.keys.uri import KeyUri, open_provider, open_signer, parse_key_uri

__all__ = [
    "AppRoleAuth",
    "JwtAuth",
    "KeyDescription",
    "KeyFileProvider",
    "KeyProvider",
    "KeyUri",
    "PassphraseProvider",
    "Signer",
    "TokenAuth",
    "VaultAuth",
    "VaultSettings",
    "generate_key_file",
    "open_provider",
    "open_signer",
    "parse_key_uri",
]
