"""TLS as checks speak it: whom they trust, and what they want of a certificate."""

from __future__ import annotations

import re
import ssl
import time
from typing import TYPE_CHECKING, Any

from sidecars.core.errors import WrongSettings
from sidecars.init.checks import Unmet

if TYPE_CHECKING:
    from sidecars.init.connecting import Streams
    from sidecars.init.target import Target

_DAY = 86400.0
_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_:-]{1,63}(\.[A-Za-z0-9_:-]{1,63})*")


def validate(target: Target) -> None:
    """Read the options once; WrongSettings."""
    target.number("min_days", 0)
    if target.flag("insecure") and {"min_days", "names"} & target.options.keys():
        raise WrongSettings(f"{target.text} is insecure, so that its certificate is not read; leave insecure out")
    if not _NAME.fullmatch(target.options.get("server_name", "x")):
        raise target.wrong("server_name", "a name")
    if "cert_key" in target.options and "cert" not in target.options:
        raise WrongSettings(f"{target.text} has a cert_key without its cert=FILE")


def context_of(target: Target, protocol: str = "") -> ssl.SSLContext:
    """Make the context anew: files are renewed while we wait. Raises Unmet when one is of no use."""
    options = target.options
    try:
        made = ssl.create_default_context(cafile=options.get("ca"))
        if "cert" in options:
            made.load_cert_chain(options["cert"], options.get("cert_key"), password=lambda: "")
    except (OSError, ValueError) as error:
        files = ", ".join(options[name] for name in ("ca", "cert", "cert_key") if name in options)
        why = getattr(error, "strerror", None) or str(error)
        raise Unmet("error", f"one of {files} is of no use: {why}; is it mounted, and PEM?") from None
    if target.flag("insecure"):
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if protocol:
        made.set_alpn_protocols([protocol])
    return made


def complain(target: Target, streams: Streams) -> str:
    """Say until when the certificate holds: "holds for 42 days". Raises Unmet if it is not as wanted."""
    certificate: dict[str, Any] = streams.writer.get_extra_info("peercert") or {}
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    for wanted in filter(None, target.options.get("names", "").split(",")):
        if not any(_covers(name, wanted) for name in names):
            raise Unmet("tls", f"the certificate is not for {wanted}, but for {', '.join(names[:8])}")
    if "notAfter" not in certificate:
        return "is not looked at"
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / _DAY
    least = target.number("min_days", 0)
    if days < least:
        raise Unmet("tls", f"the certificate holds for {days:.1f} days, expected {least} or more; renew it")
    return f"holds for {days:.0f} days"


def _covers(name: str, wanted: str) -> bool:
    """Say whether a name of a certificate, as *.example.org, is for the wanted one. Source: RFC 6125 6.4.3."""
    name, wanted = name.lower(), wanted.lower()
    return name == wanted or (name.startswith("*.") and wanted.partition(".")[2] == name[2:])
