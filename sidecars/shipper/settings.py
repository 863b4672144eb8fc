"""What an operator sets of s3-shipper."""

from __future__ import annotations

import os
import re
import socket
from typing import Annotated, ClassVar, Literal, Self

import msgspec

from sidecars.core.declaration import declared
from sidecars.core.errors import WrongSettings
from sidecars.core.settings import READY, Address, Admin, Bytes, Common, Help, Part, Seconds, Secret
from sidecars.shipper.keys import key_format
from sidecars.shipper.plan import Body, Compression, Credentials, Destination, Layout, Output, Plan, Stream

PROG = "s3-shipper"
PREFIX = "SHIPPER_"

READ, OBJECTS, BUCKET = "What to read", "What the objects are", "Where they go"
RIGHTS, BACKLOG = "The right to write there", "What waits on the state volume"

From = Literal["start", "end"]
BodyWord = Literal["text", "json", "out_file"]

_LARGEST_OBJECT = 1 << 30
# What fluentd's configuration does not say.
_BESIDE_FLUENTD = ("poll_interval", "watch", "quiet", "once", "fluentd_config", "ignore_unknown", "check")
# S3's rule for names, and the ARN of an access point. Source: "Bucket naming rules" in the S3 user guide.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|arn:.+")


class Share(str):
    """A size, or a share of the state volume: `10GiB`, `80%`."""

    __slots__ = ()
    expected: ClassVar[str] = "a share such as 80%, or bytes, 64MiB, 10GB"
    metavar: ClassVar[str] = "SIZE"
    number: ClassVar[bool] = False

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a size or a share; ValueError when the text is none."""
        share = text.removesuffix("%")
        if (share != text and not 0 < float(share) <= 100) or (share == text and Bytes.read(text) <= 0):
            raise ValueError(text)
        return cls(text)

    def of(self, whole: int) -> int:
        """Give it in bytes, of a volume of so many."""
        return int(whole * float(self[:-1]) / 100) if self.endswith("%") else int(Bytes.read(self))


class Source(Part, frozen=True):
    """Files that are shipped alike."""

    paths: Annotated[tuple[str, ...], Help("Files, globs and directories to read.", metavar="PATH")]
    exclude: Annotated[
        tuple[str, ...] | None, Help("Files to leave out.", metavar="GLOB", none="", default="--exclude")
    ] = None
    from_: Annotated[From | None, Help("Where to begin at the very first start.", none="", default="--from")] = None
    multiline: Annotated[str | None, Help("Which lines are one record.", metavar="RULE", default="--multiline")] = None
    tag: Annotated[str | None, Help("The tag of its lines.", none="", default="--tag")] = None
    prefix: Annotated[str | None, Help("What its keys begin with.", none="", default="--prefix")] = None
    format: Annotated[BodyWord | None, Help("What a line becomes.", none="", default="--format")] = None


class Settings(Common, frozen=True, kw_only=True):
    """Ship log files to S3, or to anything that speaks its protocol: every line once, whatever is killed when.

    Files are followed through every rotation. Their lines are collected in chunks on the state volume, and each chunk
    becomes one object. What is there is read from the beginning, unless --from end.

        s3-shipper '/logs/*.log' --bucket logs --prefix web/ --state-dir /state
        s3-shipper -c /fluentd/etc/fluent.conf    fluentd's configuration, as it is
        s3-shipper ... --check     try credentials and bucket with a real write
        s3-shipper healthcheck [livez|readyz|startupz|healthz]
    """

    paths: Annotated[
        tuple[str, ...], Help("Files, globs and directories to read.", READ, metavar="PATH", positional=True)
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Help("Files to leave out: by name, or by path if it has a slash.", READ, "GLOB")
    ] = ()
    from_: Annotated[From, Help("Where to begin in files that are there at the very first start.", READ)] = "start"
    once: Annotated[bool, Help("Read to the end, upload, and exit.", READ)] = False
    multiline: Annotated[
        str | None,
        Help(
            "Join the lines of one record: java, python, go, dotnet, node, ruby, php, rust, all, or a REGEX that its "
            "first line matches.",
            READ,
            "RULE",
        ),
    ] = None
    rotate_wait: Annotated[Seconds, Help("How long to read a rotated file on, for late writers.", READ)] = Seconds(5)
    poll_interval: Annotated[Seconds, Help("How often to look without a wake-up.", READ)] = Seconds(1)
    watch: Annotated[Literal["auto", "poll"], Help("Use inotify where it works, or look at intervals only.", READ)] = (
        "auto"
    )
    quiet: Annotated[Seconds, Help("How long files must be quiet before the drain ends.", READ)] = Seconds(2)
    sources: Annotated[
        tuple[Source, ...], Help("Groups of files with a tag, prefix and format of their own, instead of PATH.", READ)
    ] = ()
    fluentd_config: Annotated[
        str | None,
        Help("Read fluentd's configuration instead of all this; -c is short for it.", READ, "FILE"),
    ] = None
    ignore_unknown: Annotated[
        bool, Help("Warn of directives in fluentd's configuration that are not known, instead of stopping.", READ)
    ] = False

    tag: Annotated[
        str, Help("The tag of the lines, for keys and bodies; * in it is the file's path with dots.", OBJECTS)
    ] = "logs"
    format: Annotated[
        BodyWord, Help("Lines as they are, an object of JSON per line, or fluentd's time, tag and record.", OBJECTS)
    ] = "text"
    compress: Annotated[Compression, Help("How objects are compressed.", OBJECTS)] = "gzip"
    slice: Annotated[
        Seconds, Help("Each time slice has objects of its own; aligned to the clock. 0: none.", OBJECTS)
    ] = Seconds(300)
    slice_zone: Annotated[
        str, Help("The time zone of slices and keys: UTC, local, Europe/Berlin, +09:00.", OBJECTS, "ZONE")
    ] = "UTC"
    chunk_size: Annotated[Bytes, Help("How large an object may get, compressed.", OBJECTS)] = Bytes(64 << 20)
    chunk_age: Annotated[
        Seconds | None, Help("How long after its first line a chunk is shipped, before its slice ends.", OBJECTS)
    ] = None
    key_format: Annotated[
        str,
        Help(
            "The object's key: fluentd's and Fluent Bit's placeholders, strftime, and {chunk} {pod} {namespace} "
            "{node} {hostname} {tag}.",
            OBJECTS,
            "FORMAT",
        ),
    ] = "%{path}%Y/%m/%d/%{time_slice}-{chunk}.%{file_extension}"
    index_format: Annotated[str, Help("How %{index} is written, as printf does: %04d.", OBJECTS, "FORMAT")] = "%d"

    bucket: Annotated[str, Help("The bucket.", BUCKET, default="none: it must be given")] = ""
    prefix: Annotated[str, Help("What every key begins with; %{path} in --key-format.", BUCKET)] = ""
    endpoint: Annotated[str | None, Help("The URL of an S3 that is not Amazon's.", BUCKET, "URL", none="")] = None
    region: Annotated[str | None, Help("The bucket's region.", BUCKET, none="", default="that of the AWS chain")] = None
    create_bucket: Annotated[bool, Help("Make the bucket if it is not there.", BUCKET)] = False
    addressing: Annotated[
        Literal["auto", "path", "virtual"], Help("The bucket in the URL's path, or in its host name.", BUCKET)
    ] = "auto"
    ca_file: Annotated[str | None, Help("Certificates to trust, as PEM.", BUCKET, "FILE", none="")] = None
    encryption: Annotated[
        Literal["AES256", "aws:kms"] | None, Help("Encryption by the server.", BUCKET, none="off")
    ] = None
    kms_key_id: Annotated[str | None, Help("The key of aws:kms.", BUCKET, "ID", none="")] = None
    storage_class: Annotated[str | None, Help("Such as STANDARD_IA.", BUCKET, "CLASS", none="")] = None
    acl: Annotated[str | None, Help("A canned ACL, such as bucket-owner-full-control.", BUCKET, "ACL", none="")] = None
    object_tag: Annotated[tuple[str, ...], Help("A tag of each object.", BUCKET, "NAME=VALUE")] = ()
    metadata: Annotated[tuple[str, ...], Help("A metadatum of each object.", BUCKET, "NAME=VALUE")] = ()
    content_type: Annotated[
        str | None, Help("Content-Type of the objects.", BUCKET, "TYPE", none="", default="by --format and --compress")
    ] = None

    access_key_id: Annotated[Secret | None, Help("An access key, instead of what the AWS chain finds.", RIGHTS)] = None
    secret_access_key: Annotated[Secret | None, Help("Its secret.", RIGHTS)] = None
    session_token: Annotated[Secret | None, Help("Its session token, if it has one.", RIGHTS)] = None
    profile: Annotated[str | None, Help("A profile of the shared AWS configuration.", RIGHTS, none="")] = None
    role_arn: Annotated[str | None, Help("A role to assume.", RIGHTS, "ARN", none="")] = None
    role_session_name: Annotated[
        str | None, Help("The name of the role's session.", RIGHTS, "NAME", none="", default="s3-shipper")
    ] = None
    external_id: Annotated[str | None, Help("The external id that the role asks for.", RIGHTS, "ID", none="")] = None
    check: Annotated[bool, Help("Try to write to the bucket, say how it went, and exit.", RIGHTS)] = False

    backlog_limit: Annotated[
        Share, Help("Once chunks take so much of the state volume, reading stops until some are shipped.", BACKLOG)
    ] = Share("80%")
    upload_jobs: Annotated[int, Help("How many objects to upload at a time.", BACKLOG)] = 4

    admin: Admin = Address(":9103")
    ready_when: Annotated[Literal["started", "delivering"], READY] = "started"

    def __post_init__(self) -> None:
        """Check what no single setting can say; WrongSettings."""
        if self.fluentd_config:
            self._check_alone()
            state_dir = self.plan().state_dir
            if self.state_dir is None and state_dir:
                msgspec.structs.force_setattr(self, "state_dir", state_dir)
            return
        self._check_sources()
        self._check_rights()
        self._check_bucket()
        self._check_objects()
        self.plan()

    def _check_bucket(self) -> None:
        if not self.bucket:
            raise WrongSettings("--bucket is not set: give it, or set SHIPPER_BUCKET")
        if not _BUCKET.fullmatch(self.bucket):
            raise WrongSettings(
                f"--bucket is {self.bucket!r}, expected a name of 3 to 63 small letters, digits, dots and hyphens"
            )
        if self.endpoint and not re.match(r"https?://[^/]", self.endpoint):
            raise WrongSettings(f"--endpoint is {self.endpoint!r}, expected a URL, as http://{self.endpoint}")
        if self.kms_key_id and self.encryption != "aws:kms":
            raise WrongSettings("--kms-key-id is set without --encryption aws:kms; add it, or leave the key out")

    def _check_objects(self) -> None:
        if not 1 <= self.chunk_size <= _LARGEST_OBJECT:
            raise WrongSettings(f"--chunk-size is {self.chunk_size}, expected at most 1GiB: an object is one upload")
        if not self.slice.is_integer():
            raise WrongSettings(f"--slice is {self.slice}, expected whole seconds")
        if not 1 <= self.upload_jobs <= 64:
            raise WrongSettings(f"--upload-jobs is {self.upload_jobs}, expected 1 to 64")
        if self.poll_interval < 0.01:
            raise WrongSettings(f"--poll-interval is {self.poll_interval}, expected 10ms or more")

    def _check_alone(self) -> None:
        for setting in declared(Settings, PREFIX):
            said_there = setting.help.group in (READ, OBJECTS, BUCKET, RIGHTS) and setting.name not in _BESIDE_FLUENTD
            if said_there and getattr(self, setting.name) != setting.default:
                name = setting.flag or setting.help.metavar or setting.key
                raise WrongSettings(f"{name} and --fluentd-config are both given; fluentd's configuration says it all")

    def _check_sources(self) -> None:
        if not self.paths and not self.sources:
            raise WrongSettings("there is nothing to read: give a PATH, set SHIPPER_PATHS, or list sources in --config")
        if self.paths and self.sources:
            raise WrongSettings("PATH and sources are both given; move the paths into sources, or leave sources out")
        for paths in [source.paths for source in self.sources] or [self.paths]:
            if not paths or not all(paths):
                raise WrongSettings("a PATH is empty; was it written with a variable that is not set?")

    def _check_rights(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            given, other = "--access-key-id-file", "--secret-access-key-file"
            if self.access_key_id is None:
                given, other = other, given
            raise WrongSettings(
                f"{given} is set without {other}; a key has both: add it, or leave both to the AWS chain"
            )

    def plan(self) -> Plan:
        """Give what is shipped where. WrongSettings for what cannot be shipped so."""
        if self.fluentd_config:
            return self._fluentd_plan(self.fluentd_config)
        sources = self.sources or (Source(paths=self.paths),)
        outputs = {place: self._output(place) for place in dict.fromkeys(map(self._place, sources))}
        for output in outputs.values():
            key_format(output.layout, self.known(), extension="x")
        return Plan(streams=tuple(self._stream(source, outputs[self._place(source)]) for source in sources))

    def _fluentd_plan(self, path: str) -> Plan:
        from sidecars.shipper.fluentd import read

        plan = read(path, os.environ, ignore_unknown=self.ignore_unknown)
        for output in {stream.output.name: stream.output for stream in plan.streams}.values():
            key_format(output.layout, self.known(), extension="x")
        return plan

    def _place(self, source: Source) -> tuple[str, BodyWord]:
        return self.prefix if source.prefix is None else source.prefix, source.format or self.format

    def _stream(self, source: Source, output: Output) -> Stream:
        rule = self.multiline if source.multiline is None else source.multiline
        return Stream(
            paths=source.paths,
            exclude=self.exclude if source.exclude is None else source.exclude,
            from_end=(source.from_ or self.from_) == "end",
            tag=self.tag if source.tag is None else source.tag,
            multiline=_rule(rule),
            output=output,
        )

    def _output(self, place: tuple[str, BodyWord]) -> Output:
        prefix, body = place
        layout = Layout(
            prefix=prefix,
            key_format=self.key_format,
            slice=int(self.slice),
            zone=self.slice_zone,
            age=self.chunk_age,
            chunk_size=self.chunk_size,
            compress=self.compress,
            index_format=self.index_format,
        )
        fields = {"pod": self.pod_name, "namespace": self.pod_namespace}
        known = {name: value for name, value in fields.items() if value}
        # The name outlives a change of bucket and prefix: what waits then goes to where it should have gone.
        name = "s3" if place == (self.prefix, self.format) else f"s3 {prefix} {body}"
        return Output(name=name, destination=self._destination(), layout=layout, body=Body(kind=body, fields=known))

    def _destination(self) -> Destination:
        same = ("bucket", "region", "endpoint", "addressing", "ca_file", "encryption", "kms_key_id", "storage_class",
                "acl", "content_type", "create_bucket")  # fmt: skip
        return Destination(
            **{name: getattr(self, name) for name in same},
            object_tags=_pairs("--object-tag", self.object_tag),
            metadata=_pairs("--metadata", self.metadata),
            credentials=Credentials(
                **{
                    name: getattr(self, name)
                    for name in ("access_key_id", "secret_access_key", "session_token", "profile", "role_arn",
                                 "role_session_name", "external_id")
                }
            ),
        )  # fmt: skip

    def known(self) -> dict[str, str]:
        """Give what keys can be made of beside the chunk's own facts."""
        facts = {
            "hostname": socket.gethostname(),
            "pod": self.pod_name,
            "namespace": self.pod_namespace,
            "node": self.node_name,
        }
        return {name: value for name, value in facts.items() if value}


def _rule(text: str | None) -> str | None:
    """Give the rule that joins lines, if it is one. Raises WrongSettings."""
    if text is None or text == "off":
        return None
    from sidecars.core.follow.join import check  # only who joins lines pays for it

    check(text)
    return text


def _pairs(flag: str, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise WrongSettings(f"{flag} is {text!r}, expected NAME=VALUE")
        pairs[name] = value
    return pairs
