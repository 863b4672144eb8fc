"""What an operator sets of log-tailer."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec.structs import replace

from sidecars.core.errors import WrongSettings
from sidecars.core.forward.settings import Forward
from sidecars.core.settings import READY, Address, Admin, Bytes, Common, Help, Part, Seconds, Secret
from sidecars.tailer.outputs import Format, Label, Output, Stdout, read_output

PROG = "log-tailer"
PREFIX = "TAILER_"

READ, RECORDS, SEND, WATCH = "What to read", "What a record is", "Where to send it", "How to watch"

From = Literal["start", "end"]


class Source(Part, frozen=True):
    """Files that are read alike."""

    paths: Annotated[tuple[str, ...], Help("Files, globs and directories to read.", metavar="PATH")]
    exclude: Annotated[
        tuple[str, ...] | None, Help("Files to leave out.", metavar="GLOB", none="", default="--exclude")
    ] = None
    from_: Annotated[
        From | None, Help("Where to begin in files found at the first look.", none="", default="--from")
    ] = None
    multiline: Annotated[
        str | None, Help("Which lines are one record, or off.", metavar="RULE", none="", default="--multiline")
    ] = None


class Settings(Common, frozen=True, kw_only=True):
    """Stream everything that is and will be written to files to stdout, or to Fluentd and Fluent Bit.

    A file is followed through every rotation, from its beginning, and byte for byte. In a pod, quote a glob or give it
    in args, so that it is log-tailer that expands it.

        log-tailer /logs/app.log '/logs/*.json' --exclude '*.gz'
        log-tailer healthcheck [livez|readyz|startupz|healthz]

    The second asks the log-tailer that runs in this container how it is: exit 0, or 1.
    """

    paths: Annotated[
        tuple[str, ...], Help("Files, globs and directories to read.", READ, metavar="PATH", positional=True)
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Help("Files to leave out: by name, or by path if it has a slash.", READ, "GLOB")
    ] = ()
    from_: Annotated[
        From, Help("Where to begin in files found at the first look; later ones are read whole.", READ)
    ] = "start"
    once: Annotated[bool, Help("Read to the end, deliver, and exit.", READ)] = False
    remove_rotated_after: Annotated[
        Seconds | None,
        Help("Remove a rotated file this long after every output took all of it; needs a writable mount.", READ),
    ] = None
    sources: Annotated[
        tuple[Source, ...], Help("Groups of files with settings of their own, instead of PATH.", READ)
    ] = ()

    multiline: Annotated[
        str | None,
        Help(
            "Join the lines of one record: java, python, go, dotnet, node, ruby, php, rust, all, or a REGEX that its "
            "first line matches.",
            RECORDS,
            "RULE",
        ),
    ] = None
    multiline_timeout: Annotated[Seconds, Help("How long a record waits for its next line.", RECORDS)] = Seconds(1)
    max_line: Annotated[
        Bytes | None, Help("Split longer lines in parts, marked as such; needs --format json.", RECORDS)
    ] = None
    partial_timeout: Annotated[
        Seconds | None, Help("How long a last line is held that has no newline yet; off: until the end.", RECORDS)
    ] = None

    format: Annotated[Format, Help("Pass bytes on unchanged, or wrap each line in JSON.", SEND)] = "raw"
    label: Annotated[Label, Help("Begin each line with the path or name of its file.", SEND)] = "none"
    output: Annotated[
        tuple[str, ...],
        Help("stdout, or forward://HOST:24224?tag=app&tls=true; each has its own offsets.", SEND, "URL"),
    ] = ("stdout",)
    forward_key: Annotated[Secret | None, Help("The shared key of forward outputs.", SEND)] = None
    rate_limit: Annotated[Bytes | None, Help("How many bytes a second to send at most.", SEND, "BYTES")] = None
    outputs: Annotated[tuple[Output, ...], Help("Outputs with settings of their own, instead of --output.", SEND)] = ()

    watch: Annotated[Literal["auto", "poll"], Help("Use inotify where it works, or look at intervals only.", WATCH)] = (
        "auto"
    )
    poll_interval: Annotated[Seconds, Help("How often to look without a wake-up.", WATCH)] = Seconds(1)
    rotate_wait: Annotated[Seconds, Help("How long to read a rotated file on, for late writers.", WATCH)] = Seconds(5)
    quiet: Annotated[Seconds, Help("How long files must be quiet before the drain ends.", WATCH)] = Seconds(2)

    admin: Admin = Address(":9101")
    ready_when: Annotated[Literal["started", "delivering"], READY] = "started"

    def __post_init__(self) -> None:
        """Check what no single setting can say; WrongSettings."""
        self._check_sources()
        self._check_outputs()
        for flag, value in (("--max-line", self.max_line), ("--rate-limit", self.rate_limit)):
            if value == 0:
                raise WrongSettings(f"{flag} is 0, which lets nothing through; give more, or off")
        if self.poll_interval < 0.01:
            raise WrongSettings(f"--poll-interval is {self.poll_interval}, expected 10ms or more")

    def every_source(self) -> tuple[Source, ...]:
        """Give what to read, with each source's own settings or else those of all."""
        sources = self.sources or (Source(paths=self.paths),)
        return tuple(
            Source(
                paths=source.paths,
                exclude=self.exclude if source.exclude is None else source.exclude,
                from_=source.from_ or self.from_,
                multiline=self.multiline if source.multiline is None else _unless_off(source.multiline),
            )
            for source in sources
        )

    def every_output(self) -> tuple[Stdout | Forward, ...]:
        """Give where to send it, with each output's own settings or else those of all."""
        listed = [output.stdout or output.forward for output in self.outputs]
        return tuple(self._complete(output) for output in listed or map(read_output, self.output) if output)

    def _complete(self, output: Stdout | Forward) -> Stdout | Forward:
        if isinstance(output, Stdout):
            return Stdout(format=output.format or self.format, label=output.label or self.label)
        return output if output.key else replace(output, key=self.forward_key)

    def _check_sources(self) -> None:
        if not self.paths and not self.sources:
            raise WrongSettings("there is nothing to read: give a PATH, set TAILER_PATHS, or list sources in --config")
        if self.paths and self.sources:
            raise WrongSettings("PATH and sources are both given; move the paths into sources, or leave sources out")
        for source in self.every_source():
            if not source.paths or not all(source.paths):
                raise WrongSettings("a PATH is empty; was it written with a variable that is not set?")
            _check_multiline(source.multiline)
            _check_state_dir(self.state_dir, source)

    def _check_outputs(self) -> None:
        if self.outputs and self.output != ("stdout",):
            raise WrongSettings("--output and outputs are both given; move the URLs into outputs, or leave outputs out")
        outputs = self.every_output()
        if not outputs:
            raise WrongSettings("--output is empty; give stdout, or forward://HOST:PORT")
        names = [f"{output} {getattr(output, 'tag', '')}".strip() for output in outputs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise WrongSettings(f"the output {twice[0]} is given twice; leave one out")
        for output in outputs:
            if isinstance(output, Forward):
                self._check_tag(output)
        formats = [output.format for output in outputs if isinstance(output, Stdout)]
        if self.max_line is not None and "json" not in formats:
            raise WrongSettings(
                "--max-line needs --format json, for raw has no mark for a part; add it, or leave --max-line out"
            )

    def _check_tag(self, output: Forward) -> None:
        """Fill in the tag once, for what a tag asks for may not be known."""
        from sidecars.core.forward.destination import tag_for  # only who forwards pays for it

        tag_for(output.tag, path="x", pod=self.pod_name, namespace=self.pod_namespace)


def _unless_off(text: str) -> str | None:
    return None if text == "off" else text


def _check_multiline(rule: str | None) -> None:
    if rule is not None:
        from sidecars.core.follow.join import check  # only who joins lines pays for it

        check(rule)


def _check_state_dir(state_dir: str | None, source: Source) -> None:
    if state_dir is not None:
        from sidecars.core.follow.find import check_state_dir  # only who names a state dir pays for it

        check_state_dir(state_dir, source.paths, source.exclude or ())
