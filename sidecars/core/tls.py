"""What is trusted when we speak TLS, and what we show."""

from __future__ import annotations

import ssl

from sidecars.core.errors import DeliveryFailed


def context(*, ca: str | None, cert: str | None, cert_key: str | None, verify: bool) -> ssl.SSLContext:
    """Make a client's TLS context: at each connection anew, for certificates are renewed while we run.

    It reads files, so it blocks. Raises DeliveryFailed.
    """
    try:
        made = ssl.create_default_context(cafile=ca)
        if cert:
            made.load_cert_chain(cert, cert_key)
    except OSError as error:
        files = ", ".join(filter(None, (ca, cert, cert_key)))
        raise DeliveryFailed("tls", f"one of {files} is of no use: {error}; is it mounted, and PEM?") from error
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made
