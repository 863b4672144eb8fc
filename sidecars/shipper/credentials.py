"""The right to write: keys, profiles, processes, metadata and roles, found when a request needs them, and found anew.

Only bucket.py imports this, with boto3.
"""

from __future__ import annotations

import functools
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import botocore.loaders
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    AssumeRoleWithWebIdentityCredentialFetcher,
    DeferredRefreshableCredentials,
    ProcessProvider,
    ReadOnlyCredentials,
)
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.exceptions import CredentialRetrievalError, NoCredentialsError, PartialCredentialsError
from botocore.session import Session
from botocore.utils import FileWebIdentityTokenLoader

from sidecars.shipper.plan import Credentials, Destination

# boto3 asks for a region also where there is none: the name that MinIO, Ceph and others go by.
_REGION = "us-east-1"
_PROCESS_SECONDS = 60.0
_METADATA = ("container-role", "iam-role")
# What botocore lets through when a command, a file or a service gives what are no credentials.
_UNFIT = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, subprocess.SubprocessError)


class Rights(BotocoreCredentials):  # type: ignore[misc]
    """botocore's credentials: found at the first request, renewed before they expire, found anew after `forget`."""

    def __init__(self, destination: Destination, config: Config) -> None:
        super().__init__("", "", method="sidecars")
        self._destination = destination
        self._config = config
        self._lock = threading.Lock()
        self._found: Any = None

    def session(self) -> Session:
        """Make a session whose clients use these credentials."""
        session = _session(self._destination, self._config)
        session.register_component("credential_provider", self)
        return session

    def load_credentials(self) -> Rights:
        """Be what a session asks for credentials."""
        return self

    def get_frozen_credentials(self) -> Any:
        """Give the keys to sign one request with. Raises BotoCoreError, ClientError, WrongSettings."""
        try:
            with self._lock:
                if self._found is None:
                    self._found = _found(self._destination, self._config)
                found = self._found
            return found.get_frozen_credentials()
        except _UNFIT as error:
            reason = str(error) or type(error).__name__
            if not isinstance(error, OSError):
                reason = f"what was given are none ({reason})"
            raise CredentialRetrievalError(provider="where the settings say", error_msg=reason) from error

    def forget(self) -> None:
        """Look for credentials anew at the next request: these were refused, and may have been replaced."""
        with self._lock:
            self._found = None


class _Keys:
    """Keys that are given, read anew from their files for each request."""

    def __init__(self, given: Credentials) -> None:
        self._given = given

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        secrets = (self._given.access_key_id, self._given.secret_access_key, self._given.session_token)
        access, secret, token = (each.reveal() if each is not None else None for each in secrets)
        if not access or not secret:
            missing = "secret_access_key" if access else "access_key_id"
            raise PartialCredentialsError(provider="the settings", cred_var=missing)
        return ReadOnlyCredentials(access, secret, token)


class _Process(subprocess.Popen[bytes]):
    """A credential process that does not answer is ended."""

    def communicate(self, *_: Any, **__: Any) -> tuple[bytes, bytes]:
        try:
            return super().communicate(timeout=_PROCESS_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            super().communicate()
            raise


@functools.cache
def _loader() -> Any:
    # It keeps the description of the service, 12 MiB, which all clients may share.
    return botocore.loaders.create_loader()


def _session(destination: Destination, config: Config) -> Session:
    """Make a session: the profile, the region, and what each of its clients is like."""
    given = destination.credentials
    session = Session()
    session.register_component("data_loader", _loader())
    session.set_default_client_config(config)
    if given.shared_file:
        session.set_config_variable("credentials_file", given.shared_file)
    # A file that is named counts before the environment, as a profile that is named does.
    if given.profile or given.shared_file:
        session.set_config_variable("profile", given.profile or "default")
    region = destination.region or session.get_config_variable("region") or _REGION
    session.set_config_variable("region", region)
    return session


def _found(destination: Destination, config: Config) -> Any:
    """Find credentials. A new session each time: a session keeps the files that it has read."""
    given = destination.credentials
    session = _session(destination, config)
    if given.role_arn is None and given.web_identity_token_file is None:
        return _without_role(given, session)
    role = {
        "RoleSessionName": given.role_session_name or "s3-shipper",
        "Policy": given.role_policy,
        "DurationSeconds": given.role_seconds,
    }
    arguments = {name: value for name, value in role.items() if value is not None}
    sts = _sts(destination, session)
    fetcher: Any
    if given.web_identity_token_file is not None:
        token = FileWebIdentityTokenLoader(given.web_identity_token_file)
        fetcher = AssumeRoleWithWebIdentityCredentialFetcher(sts, token, given.role_arn, arguments)
    else:
        if given.external_id is not None:
            arguments["ExternalId"] = given.external_id
        source = _without_role(given, session)
        fetcher = AssumeRoleCredentialFetcher(sts, source, given.role_arn, arguments)
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


def _without_role(given: Credentials, session: Session) -> Any:
    if given.access_key_id is not None or given.secret_access_key is not None:
        return _Keys(given)
    chain = session.get_component("credential_provider")
    if given.process is not None:
        profile = {"profiles": {"": {"credential_process": given.process}}}
        chain.providers = [ProcessProvider("", lambda: profile, popen=_Process)]
    elif given.instance_profile:
        chain.providers.sort(key=lambda provider: provider.METHOD not in _METADATA)
    found = chain.load_credentials()
    if found is None:
        raise NoCredentialsError()
    return found


def _sts(destination: Destination, session: Session) -> Callable[..., Any]:
    """Give what makes a client of the service that gives roles, with the keys or the config that it is given."""
    given = destination.credentials
    # An endpoint of one's own is next to that of S3, and has its certificate from the same CA.
    verify = (destination.ca_file if destination.verify else False) if given.sts_endpoint else None
    region = given.sts_region or session.get_config_variable("region")
    return functools.partial(session.create_client, region_name=region, endpoint_url=given.sts_endpoint, verify=verify)
