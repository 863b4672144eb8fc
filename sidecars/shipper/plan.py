"""What is shipped where: made from the settings or from fluentd's configuration, and all that the shipper goes by."""

from __future__ import annotations

from typing import Literal

import msgspec

from sidecars.core.units import Secret

Compression = Literal["gzip", "zstd", "none"]
BodyKind = Literal["text", "json", "out_file", "ltsv"]
ParseKind = Literal["none", "json", "nginx", "apache2", "regexp", "multiline"]


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Where the right to write comes from; with nothing set, boto3's own chain.

    access_key_id ...    explicit keys; read anew when their files change
    profile              a profile of the shared credentials file, which is `shared_file` if given
    process              a command that prints credentials (credential_process)
    instance_profile     from the instance's or container's metadata, before anything else of the chain
    role_arn             the role to assume with what the above gives, or with web_identity_token_file
    """

    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    profile: str | None = None
    shared_file: str | None = None
    process: str | None = None
    instance_profile: bool = False
    role_arn: str | None = None
    role_session_name: str | None = None
    external_id: str | None = None
    role_policy: str | None = None
    role_seconds: int | None = None
    web_identity_token_file: str | None = None
    sts_endpoint: str | None = None
    sts_region: str | None = None


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket, how to reach it, and what each object in it is given."""

    bucket: str
    region: str | None = None
    endpoint: str | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    accelerate: bool = False
    dual_stack: bool = False
    ca_file: str | None = None
    verify: bool = True
    proxy: str | None = None
    credentials: Credentials = Credentials()
    encryption: Literal["AES256", "aws:kms"] | None = None
    kms_key_id: str | None = None
    storage_class: str | None = None
    acl: str | None = None
    grant_read: str | None = None
    grant_read_acp: str | None = None
    grant_write_acp: str | None = None
    grant_full_control: str | None = None
    object_tags: dict[str, str] = {}
    metadata: dict[str, str] = {}
    content_type: str | None = None
    create_bucket: bool = False


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How lines are put into objects. Times in seconds.

    slice        length of a time slice, aligned in `zone`; 0: none, one slice for ever
    slice_format strftime of %{time_slice}; None: as precise as the slice, as fluentd chooses it
    wait         a chunk is sealed so long after the end of its slice
    age          and so long after its first line, if this is earlier
    chunk_size   and before its object grows beyond so many bytes
    by_tag       each tag has chunks of its own
    """

    prefix: str = ""
    key_format: str = "%{path}%{time_slice}-{chunk}.%{file_extension}"
    slice: int = 300
    slice_format: str | None = None
    zone: str = "UTC"
    wait: float = 0.0
    age: float | None = None
    chunk_size: int = 64 << 20
    by_tag: bool = True
    compress: Compression = "gzip"
    index_format: str = "%d"
    hex_length: int = 4
    extension: str | None = None


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """What a line becomes in the object.

    text      the line as it is; of a parsed record, the value of `message_key`
    json      one JSON object per line: the record, with time, tag, file, pod and namespace of native sources
    out_file  fluentd's: time, tag and the record as JSON, with `delimiter` between
    ltsv      the record as label:value, with tabs between

    time_key, tag_key put the time and tag into the record, under this name; time_format is strftime, None is ISO 8601
    with the offset of `zone`, or else of the layout's. `fields` are put into each json record. `by_event_time` slices
    by the time that was parsed, not by that of reading.
    """

    kind: BodyKind = "text"
    message_key: str = "message"
    time_key: str | None = None
    time_format: str | None = None
    zone: str | None = None
    tag_key: str | None = None
    delimiter: str = "\t"
    add_newline: bool = True
    output_time: bool = True
    output_tag: bool = True
    fields: dict[str, str] = {}
    by_event_time: bool = False


class Parse(msgspec.Struct, frozen=True, kw_only=True):
    """How a line becomes a record, as fluentd's parsers do; none: {message_key: line}.

    expression   of regexp: a pattern with named groups, Ruby's or Python's
    firstline    of multiline: the pattern that begins a record (it is joined by core/follow); formats: the rest
    types        of fields: name to string, integer, float, bool, time, array
    """

    kind: ParseKind = "none"
    message_key: str = "message"
    expression: str | None = None
    firstline: str | None = None
    formats: tuple[str, ...] = ()
    time_key: str | None = None
    time_format: str | None = None
    time_type: Literal["string", "float", "unixtime"] = "string"
    zone: str | None = None
    keep_time_key: bool = False
    types: dict[str, str] = {}
    null_value_pattern: str | None = None
    null_empty_string: bool = False
    estimate_current_event: bool = True


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A destination, a layout and a body, under a name that is the same at every start: the ledger keeps it."""

    name: str
    destination: Destination
    layout: Layout = Layout()
    body: Body = Body()


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """Files that are read alike, under one tag (`*` in it is the path with dots for slashes), and where they go.

    multiline  which lines are one record: a preset's name, or a regular expression that its first line matches
    pos_file   fluentd's file of offsets, to be taken over at the very first start
    path_key   the record gets the file's path under this name
    """

    paths: tuple[str, ...]
    output: Output
    exclude: tuple[str, ...] = ()
    from_end: bool = False
    tag: str = ""
    multiline: str | None = None
    parse: Parse | None = None
    pos_file: str | None = None
    path_key: str | None = None
    path_zone: str | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything to ship. `state_dir` and the rest are what fluentd's configuration says of this process as a whole."""

    streams: tuple[Stream, ...]
    state_dir: str | None = None
    rotate_wait: float = 5.0
    backlog_limit: int | None = None
    upload_jobs: int | None = None
    warnings: tuple[str, ...] = ()
