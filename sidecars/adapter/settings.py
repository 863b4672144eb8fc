"""What an operator sets of log-adapter."""

from __future__ import annotations

from typing import Annotated, Literal

from sidecars.core.settings import READY, Address, Admin, Bytes, Common, Help, Part, Seconds, Secret

PROG = "log-adapter"
PREFIX = "ADAPTER_"

READ, PARSE, SHAPE = "What to read", "How to read it", "What becomes of the fields"
SEND, WEB, METRICS, WATCH = "Where to send it", "What is served", "Metrics and health", "How to watch"

# What bbachin1/adapter-node-server reads, and how; it has no settings.
COMPATIBLE_PATH, COMPATIBLE_FORMAT = "/var/log/file.log", "hash"

To = Literal["jsonl", "ecs", "otlp", "gelf", "logfmt", "csv", "template"]
Begin = Literal["start", "end"]


class Source(Part, frozen=True):
    """Files that are read alike."""

    paths: Annotated[tuple[str, ...], Help("Files, globs and directories to read.", metavar="PATH")]
    exclude: Annotated[
        tuple[str, ...] | None, Help("Files to leave out.", metavar="GLOB", none="", default="--exclude")
    ] = None
    from_: Annotated[str | None, Help("Their format.", metavar="FORMAT", none="", default="--from")] = None
    read_from: Annotated[Begin | None, Help("Where to begin.", none="", default="--read-from")] = None
    multiline: Annotated[
        str | None, Help("Which lines are one record.", metavar="RULE", none="", default="--multiline")
    ] = None


class Metric(Part, frozen=True):
    """A metric made of the fields of records."""

    name: Annotated[str, Help("Its name, as Prometheus shows it.")]
    type: Annotated[Literal["counter", "gauge", "histogram"], Help("What it is.")] = "counter"
    field: Annotated[str | None, Help("The field with its value; a counter without one counts records.", none="")] = (
        None
    )
    labels: Annotated[tuple[str, ...], Help("Fields that become its labels; NAME=FIELD gives one another name.")] = ()
    where: Annotated[
        tuple[str, ...], Help("Only records whose fields are so: FIELD=VALUE, FIELD!=VALUE or FIELD~REGEX.")
    ] = ()
    buckets: Annotated[tuple[float, ...], Help("Upper bounds of a histogram's buckets.")] = ()
    help: Annotated[str, Help("What people read about it.")] = ""


class Settings(Common, frozen=True, kw_only=True):
    """Read an application's log in whatever format it has; offer it as JSON lines, by HTTP, and as metrics.

    Without any argument it reads /var/log/file.log and serves it on port 3080, as adapter-node-server does.

        log-adapter /logs/access.log
        log-adapter '/logs/*.log' --to ecs --redact email,token
        log-adapter --from '$remote_addr [$time_iso8601] "$request" $status' /logs/access.log
        log-adapter detect /logs/app.log
        log-adapter test --from nginx < sample
        log-adapter healthcheck [livez|readyz|startupz|healthz]
    """

    paths: Annotated[
        tuple[str, ...],
        Help(
            "Files, globs, directories and FIFOs to read; - is the standard input.",
            READ,
            "PATH",
            positional=True,
            default="/var/log/file.log",
        ),
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Help("Files to leave out: by name, or by path if it has a slash.", READ, "GLOB")
    ] = ()
    read_from: Annotated[
        Begin, Help("Where to begin in files found at the first look; later ones are read whole.", READ)
    ] = "start"
    once: Annotated[bool, Help("Read to the end, deliver, and exit.", READ)] = False
    syslog: Annotated[
        tuple[str, ...], Help("Take syslog at udp://:5514, tcp://:5514 or unix:///PATH.", READ, "URL")
    ] = ()
    post: Annotated[bool, Help("Take records by POST /logs where --listen listens.", READ)] = False
    queue_limit: Annotated[
        Bytes, Help("How much to hold of what has no file behind it: the standard input, FIFOs, syslog, POST.", READ)
    ] = Bytes(8 << 20)
    sources: Annotated[
        tuple[Source, ...], Help("Groups of files with settings of their own, instead of PATH.", READ)
    ] = ()

    from_: Annotated[
        str | None,
        Help(
            "A format's name, auto, or what describes one: an nginx log_format, an Apache LogFormat, a grok pattern, "
            "or a regular expression with named groups.",
            PARSE,
            "FORMAT",
            none="",
            default="auto; hash without a PATH",
        ),
    ] = None
    multiline: Annotated[
        str | None,
        Help(
            "Join the lines of one record: auto, java, python, go, dotnet, node, ruby, php, rust, all, a REGEX that "
            "its first line matches, or off.",
            PARSE,
            "RULE",
        ),
    ] = "auto"
    multiline_timeout: Annotated[Seconds, Help("How long a record waits for its next line.", PARSE)] = Seconds(1)
    time_zone: Annotated[
        str, Help("The zone of times that do not say theirs: UTC, Europe/Berlin, +02:00.", PARSE, "ZONE")
    ] = "UTC"

    rename: Annotated[tuple[str, ...], Help("Give a field another name.", SHAPE, "OLD=NEW")] = ()
    drop: Annotated[tuple[str, ...], Help("Leave a field out.", SHAPE, "FIELD")] = ()
    add: Annotated[
        tuple[str, ...],
        Help("Add a field; {file}, {name}, {pod}, {namespace} and {node} are put in.", SHAPE, "FIELD=VALUE"),
    ] = ()
    redact: Annotated[
        tuple[str, ...],
        Help("Black out what looks like this, wherever it stands: email, ip, token.", SHAPE, "KIND"),
    ] = ()
    redact_pattern: Annotated[tuple[str, ...], Help("Black out what this matches.", SHAPE, "REGEX")] = ()

    to: Annotated[To, Help("The format of what goes to stdout and files.", SEND)] = "jsonl"
    template: Annotated[
        str | None, Help("A line of --to template, such as '{time} {level} {message}'.", SEND, none="")
    ] = None
    columns: Annotated[tuple[str, ...], Help("The columns of --to csv.", SEND, "FIELD")] = ()
    output: Annotated[
        tuple[str, ...],
        Help(
            "stdout, file:///PATH, otlp+http://HOST:4318, gelf+udp://HOST:12201, gelf+tcp://HOST:12201, "
            "forward://HOST:24224?tag=app, or off; each has its own offsets.",
            SEND,
            "URL",
        ),
    ] = ("stdout",)
    otlp_token: Annotated[Secret | None, Help("The bearer token of OTLP receivers.", SEND)] = None
    forward_key: Annotated[Secret | None, Help("The shared key of forward outputs.", SEND)] = None
    workers: Annotated[int, Help("How many processes parse; 1: this one.", SEND)] = 1

    listen: Annotated[Address | None, Help("Where GET /logs and the page for people are served.", WEB)] = Address(
        ":3080"
    )
    auth_user: Annotated[str | None, Help("The user that --listen asks for.", WEB, none="")] = None
    auth_password: Annotated[Secret | None, Help("That user's password.", WEB)] = None
    auth_token: Annotated[Secret | None, Help("The bearer token that --listen asks for.", WEB)] = None
    keep: Annotated[Bytes, Help("How much of what has no file behind it is kept for GET /logs.", WEB)] = Bytes(4 << 20)

    metrics: Annotated[tuple[Metric, ...], Help("Metrics made of fields, beside those of access logs.", METRICS)] = ()
    max_label_values: Annotated[
        int, Help("How many values a label may have; what comes after them is counted as other.", METRICS)
    ] = 100
    health: Annotated[
        tuple[str, ...],
        Help(
            "What GET /health asks: an http:// URL, tcp://HOST:PORT, file-age:PATH, log-pattern:REGEX, or "
            "log-pattern:!REGEX for what must not come. After a # its options: #status=200&timeout=2s&every=5s, "
            "#max=60s, #within=60s.",
            METRICS,
            "CHECK",
        ),
    ] = ()

    watch: Annotated[Literal["auto", "poll"], Help("Use inotify where it works, or look at intervals only.", WATCH)] = (
        "auto"
    )
    poll_interval: Annotated[Seconds, Help("How often to look without a wake-up.", WATCH)] = Seconds(1)
    rotate_wait: Annotated[Seconds, Help("How long to read a rotated file on, for late writers.", WATCH)] = Seconds(5)
    quiet: Annotated[Seconds, Help("How long files must be quiet before the drain ends.", WATCH)] = Seconds(2)

    admin: Admin = Address(":9102")
    ready_when: Annotated[Literal["started", "delivering"], READY] = "started"

    def __post_init__(self) -> None:
        """Check what no single setting can say; WrongSettings."""
        from sidecars.adapter.checking import check  # it makes what these settings describe, and so imports them

        check(self)

    def every_source(self) -> tuple[Source, ...]:
        """Give what to read, with each source's own settings or else those of all."""
        compatible = not (self.paths or self.sources or self.syslog or self.post)
        given = self.from_ or (COMPATIBLE_FORMAT if compatible else "auto")
        sources = self.sources or (Source(paths=(COMPATIBLE_PATH,) if compatible else self.paths),)
        return tuple(
            Source(
                paths=source.paths,
                exclude=self.exclude if source.exclude is None else source.exclude,
                from_=source.from_ or given,
                read_from=source.read_from or self.read_from,
                multiline=self.multiline if source.multiline is None else _unless_off(source.multiline),
            )
            for source in sources
        )


def _unless_off(text: str) -> str | None:
    return None if text == "off" else text
