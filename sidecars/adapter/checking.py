"""What no single setting can say: whether they fit together, and whether what they describe can be made."""

from __future__ import annotations

from sidecars.adapter.deliver import read_outputs
from sidecars.adapter.encode import encoder
from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.inputs import SMALLEST_QUEUE
from sidecars.adapter.reading import AUTO, Formats
from sidecars.adapter.settings import Settings
from sidecars.core.errors import WrongSettings
from sidecars.core.follow import join
from sidecars.core.follow.find import check_state_dir
from sidecars.core.units import Bytes

_MOST_WORKERS = 64


def check(settings: Settings) -> None:
    """Make once what the settings describe. Raises WrongSettings for what cannot be made."""
    _check_sources(settings)
    _check_numbers(settings)
    Formats(settings)
    Shaping(settings)
    for spec in read_outputs(settings):
        if spec.to is not None:
            encoder(settings, spec.to)
    _check_template(settings)
    _check_served(settings)
    _check_what_few_have(settings)


def _check_what_few_have(settings: Settings) -> None:
    """Check what only who has some pays for."""
    if settings.metrics:
        from sidecars.adapter.measures import measures

        measures(settings)
    if settings.health:
        from sidecars.adapter.healthchecks import Checks

        Checks(settings)
    if settings.syslog:
        from sidecars.adapter.inputs.syslog import scheme

        for url in settings.syslog:
            scheme(url)


def _check_sources(settings: Settings) -> None:
    if settings.paths and settings.sources:
        raise WrongSettings("PATH and sources are both given; move the paths into sources, or leave sources out")
    for source in settings.every_source():
        if settings.sources and not source.paths:
            raise WrongSettings("a source has no paths; name some, or leave it out")
        if not all(source.paths):
            raise WrongSettings("a PATH is empty; was it written with a variable that is not set?")
        if source.multiline is not None and source.multiline != AUTO:
            join.check(source.multiline)
        files = [path for path in source.paths if path != "-"]
        check_state_dir(settings.state_dir, files, source.exclude or ())


def _check_numbers(settings: Settings) -> None:
    if not 1 <= settings.workers <= _MOST_WORKERS:
        raise WrongSettings(f"--workers is {settings.workers}, expected 1 to {_MOST_WORKERS}")
    if settings.workers > 1 and settings.to == "csv":
        raise WrongSettings(
            f"--to csv has one header, so one process writes it; leave out --workers {settings.workers}"
        )
    if settings.queue_limit < SMALLEST_QUEUE:
        raise WrongSettings(f"--queue-limit is {settings.queue_limit}, expected {Bytes(SMALLEST_QUEUE)} or more")
    if settings.max_label_values < 1:
        raise WrongSettings(f"--max-label-values is {settings.max_label_values}, expected 1 or more")
    if settings.poll_interval < 0.01:
        raise WrongSettings(f"--poll-interval is {settings.poll_interval}, expected 10ms or more")


def _check_template(settings: Settings) -> None:
    if settings.template is not None and settings.to != "template":
        raise WrongSettings(f"--template is given, but --to is {settings.to}; give --to template, or leave it out")
    if settings.columns and settings.to != "csv":
        raise WrongSettings(f"--columns are given, but --to is {settings.to}; give --to csv, or leave them out")


def _check_served(settings: Settings) -> None:
    if (settings.auth_user is None) != (settings.auth_password is None):
        raise WrongSettings("--auth-user and --auth-password-file need each other: give both, or none")
    if settings.listen is None:
        for flag, value in (("--post", settings.post), ("--health", settings.health)):
            if value:
                raise WrongSettings(f"{flag} needs --listen, which is off; give it an address, or leave {flag} out")
    elif settings.admin is not None and settings.admin.port == settings.listen.port != 0:
        raise WrongSettings(f"--listen and --admin both are port {settings.listen.port}; give one of them another")
