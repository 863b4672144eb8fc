"""tls://: a TLS handshake ends well, with a certificate that is trusted, for this name, and for some time yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecars.init.checks import Result
from sidecars.init.connecting import connected
from sidecars.init.tls import complain, context_of, validate

if TYPE_CHECKING:
    from sidecars.init.target import Target

__all__ = ["check", "validate"]


async def check(target: Target, patience: float) -> Result:
    """Shake hands; `min_days=7` wants the certificate to hold that long, `names=a,b` to be for these names too."""
    async with connected(target, patience, context_of(target), target.options.get("server_name")) as streams:
        certificate = complain(target, streams)
        version = streams.writer.get_extra_info("ssl_object").version()
        return Result("ok", f"speaks {version}; the certificate {certificate}")
