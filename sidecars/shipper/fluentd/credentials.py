"""Which of the credentials of a match win: in out_s3's order, only the first that is given counts."""

from __future__ import annotations

from msgspec.structs import replace

from sidecars.core.units import Secret
from sidecars.shipper.fluentd.directives import INSTANCE, ROLE, SHARED, WEB_IDENTITY
from sidecars.shipper.fluentd.sections import Section
from sidecars.shipper.plan import Credentials


def credentials(match: Section, region: str) -> Credentials:
    """Read the credentials of a match. Raises WrongSettings, with the line and without a secret."""
    role, web = match.section("assume_role_credentials", ROLE), match.section("web_identity_credentials", WEB_IDENTITY)
    instance, shared = (
        match.section("instance_profile_credentials", INSTANCE),
        match.section("shared_credentials", SHARED),
    )
    access, secret = _keys(match)
    if role:
        return replace(_role(role, region), access_key_id=access, secret_access_key=secret)
    if access:
        return Credentials(access_key_id=access, secret_access_key=secret)
    if "aws_profile" in match.values:
        return Credentials(profile=match.get("aws_profile"))
    if "aws_credential_process" in match.values:
        return Credentials(process=match.get("aws_credential_process"))
    if web:
        return _role(web, region, token=web.needed("web_identity_token_file"))
    if instance:
        return Credentials(instance_profile=True)
    if shared:
        return Credentials(profile=shared.get("profile_name"), shared_file=shared.get("path"))
    return Credentials(instance_profile="aws_iam_retries" in match.values)


def _keys(match: Section) -> tuple[Secret | None, Secret | None]:
    access, secret = match.get("aws_key_id"), match.get("aws_sec_key")
    if bool(access) != bool(secret):
        given, other = ("aws_key_id", "aws_sec_key") if access else ("aws_sec_key", "aws_key_id")
        raise match.wrong(given, f"is set and {other} is not, or empty; a key has both: add it, or leave both out")
    return (Secret(access), Secret(secret)) if access else (None, None)


def _role(section: Section, region: str, *, token: str | None = None) -> Credentials:
    return Credentials(
        role_arn=section.needed("role_arn"),
        role_session_name=section.needed("role_session_name"),
        external_id=section.get("external_id"),
        role_policy=section.get("policy"),
        role_seconds=section.get("duration_seconds"),
        web_identity_token_file=token,
        sts_endpoint=section.get("sts_endpoint_url"),
        sts_region=section.get("sts_region") or region,
    )
