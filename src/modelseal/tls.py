"""How every client here meets a server: certificates checked, and a session's keys kept.

`ssl.create_default_context` and urllib3's own contexts write the keys of each session to where
SSLKEYLOGFILE says. With them, whoever recorded the traffic reads tokens and data keys in it.
"""

import ssl
import sys
from pathlib import Path


def client_context() -> ssl.SSLContext:
    """Return a context that trusts nobody yet, as strict as the standard library's default."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if sys.version_info >= (3, 13):
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    return context


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that trusts one CA; the system's where none is given.

    Raises:
        OSError: the CA cannot be read, or is none.

    """
    context = client_context()
    if ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca_file)
    return context
