"""`<match>` of @type s3: where objects go, what they are named and what is in them."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from sidecars.core.errors import WrongSettings
from sidecars.shipper.fluentd import zones
from sidecars.shipper.fluentd.buffers import Buffer, buffer
from sidecars.shipper.fluentd.credentials import credentials
from sidecars.shipper.fluentd.directives import FORMAT, INJECT, S3, UNREAD, UNSUPPORTED
from sidecars.shipper.fluentd.grammar import Element
from sidecars.shipper.fluentd.sections import Report, Section
from sidecars.shipper.keys import key_format
from sidecars.shipper.plan import Body, BodyKind, Compression, Destination, Layout, Output

_REGION = "us-east-1"
_KEY_FORMAT = "%{path}%{time_slice}_%{index}.%{file_extension}"
# fluentd's own has the seconds only, and overwrites what was uploaded in the same second.
_UNCHECKED_KEY_FORMAT = "%{path}%{time_slice}_%{hms_slice}_%{uuid_flush}.%{file_extension}"
_DATE = re.compile(r"(?<!%)(?:%%)*%[-0_^#]*[A-Za-z]")
_TAG = re.compile(r"\$\{tag(?:\[-?\d+\])?\}")
_FACTS = {"pod": "POD_NAME", "namespace": "POD_NAMESPACE", "node": "NODE_NAME"}
_SSE = {"aes256": "AES256"}
_OUT_FILE_DELIMITERS = (("space", " "), ("comma", ","))
_KINDS: dict[str, BodyKind] = {"out_file": "out_file", "json": "json", "ltsv": "ltsv", "single_value": "text"}


class Store(NamedTuple):
    """What store_as means: the compression, the extension of the key, and the Content-Type."""

    compress: Compression
    extension: str
    content_type: str


_STORES = {
    "gzip": Store("gzip", "gz", "application/x-gzip"),
    "gzip_command": Store("gzip", "gz", "application/x-gzip"),
    "text": Store("none", "txt", "text/plain"),
    "json": Store("none", "json", "application/json"),
    "zstd": Store("zstd", "zst", "application/x-zst"),
}


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """An output, and what its buffer says of the process as a whole."""

    output: Output
    buffer: Buffer


def match(element: Element, position: int, environ: Mapping[str, str], report: Report) -> Match:
    """Read a match, the `position`th of @type s3. Raises WrongSettings, with the line."""
    section = Section(element, S3, report)
    for name, effect in UNREAD.items():
        for inner in section.inner(name):
            report.warn(inner.place, f"<{name}> differs here: {effect}")
    chunks, store = buffer(section), _store(section)
    layout = _layout(section, chunks, store, environ)
    destination = _destination(section, store, environ)
    # The same at every start, as long as the place and the order of matches are.
    name = f"s3 {destination.bucket}/{layout.prefix} {position}"
    output = Output(name=name, destination=destination, layout=layout, body=_body(section))
    return Match(output=output, buffer=chunks)


def _store(section: Section) -> Store:
    word = section.get("store_as", "gzip")
    if word == "gzip_command":
        section.report.warn(section.where("store_as"), "store_as gzip_command is gzip here, without a command")
    return _STORES[word]


# Where objects go

_SAME = ("acl", "grant_read", "grant_read_acp", "grant_write_acp", "grant_full_control")


def _destination(section: Section, store: Store, environ: Mapping[str, str]) -> Destination:
    _refuse_unsupported(section)
    region = section.get("s3_region") or environ.get("AWS_REGION") or _REGION
    encryption = section.get("use_server_side_encryption")
    return Destination(
        bucket=section.needed("s3_bucket"),
        region=region,
        endpoint=_endpoint(section),
        addressing="path" if section.get("force_path_style") else "auto",
        accelerate=section.get("enable_transfer_acceleration", False),
        dual_stack=section.get("enable_dual_stack", False),
        ca_file=section.get("ssl_ca_bundle"),
        verify=section.get("ssl_verify_peer", True),
        proxy=section.get("proxy_uri"),
        credentials=credentials(section, region),
        encryption=_SSE.get(encryption, encryption),
        kms_key_id=section.get("ssekms_key_id"),
        storage_class="REDUCED_REDUNDANCY" if section.get("reduced_redundancy") else section.get("storage_class"),
        object_tags=_tags(section),
        metadata=_metadata(section),
        content_type=store.content_type,
        create_bucket=section.get("check_bucket", True) and section.get("auto_create_bucket", True),
        **{name: section.get(name) for name in _SAME},
    )


def _refuse_unsupported(section: Section) -> None:
    for name, advice in UNSUPPORTED.items():
        if section.get(name) and not (name == "ssl_ca_directory" and "ssl_ca_bundle" in section.values):
            raise section.wrong(name, advice)


def _endpoint(section: Section) -> str | None:
    text: str | None = section.get("s3_endpoint")
    if text is None or "://" in text:
        return text
    return f"{'https' if section.get('use_ssl', True) else 'http'}://{text}"


def _tags(section: Section) -> dict[str, str]:
    try:
        return dict(
            parse_qsl(section.get("tagging", ""), keep_blank_values=True, strict_parsing="tagging" in section.values)
        )
    except ValueError as error:
        raise section.wrong("tagging", "is not what it can be, expected name=value&name=value") from error


def _metadata(section: Section) -> dict[str, str]:
    metadata: dict[str, str] = section.get("s3_metadata", {})
    for name, value in metadata.items():
        if "${" in value or "%{" in value:
            raise section.wrong(
                "s3_metadata", f"has a placeholder in {name}, which is not supported; write a plain text"
            )
    return metadata


# What objects are named


def _layout(section: Section, chunks: Buffer, store: Store, environ: Mapping[str, str]) -> Layout:
    prefix, keys = section.get("path", ""), _key_format(section)
    by_tag = chunks.by_tag
    for name, text in (("path", prefix), ("s3_object_key_format", keys)):
        if _TAG.search(text) and not by_tag:
            by_tag = True
            section.report.warn(section.where(name), f"{name} has the tag in it: each tag has chunks of its own")
    given: dict[str, Any] = {} if chunks.chunk_size is None else {"chunk_size": chunks.chunk_size}
    layout = Layout(
        prefix=prefix,
        key_format=keys,
        slice=chunks.slice,
        slice_format=section.get("time_slice_format") if chunks.slice else "",
        zone=chunks.zone,
        wait=chunks.wait,
        age=chunks.age,
        by_tag=by_tag,
        compress=store.compress,
        index_format=section.get("index_format", "%d"),
        hex_length=section.get("hex_random_length", 4),
        extension=store.extension,
        **given,
    )
    return _checked(section, layout, environ)


def _key_format(section: Section) -> str:
    if "s3_object_key_format" in section.values:
        return str(section.get("s3_object_key_format"))
    if section.get("check_object", True):
        return _KEY_FORMAT
    section.report.warn(section.where("check_object"), f"keys are {_UNCHECKED_KEY_FORMAT}, so that none is used twice")
    return _UNCHECKED_KEY_FORMAT


def _checked(section: Section, layout: Layout, environ: Mapping[str, str]) -> Layout:
    """Give the layout back if keys can be made of it. Raises WrongSettings, with the line."""
    place = section.where("s3_object_key_format" if "s3_object_key_format" in section.values else "path")
    facts = {name: environ[variable] for name, variable in _FACTS.items() if environ.get(variable)}
    if not layout.slice and _DATE.search(layout.key_format.replace("%{path}", layout.prefix)):
        section.report.warn(place, "keys have a date in them: without time in <buffer> it is that of the first line")
    try:
        key_format(layout, {"hostname": socket.gethostname(), **facts}, extension=layout.extension or "")
    except WrongSettings as error:
        raise WrongSettings(f"{place}: {error}") from error
    return layout


# What is in them


def _body(section: Section) -> Body:
    inner = section.section("format", FORMAT)
    shape = inner or section
    kind = _kind(section, inner)
    injected = _injected(section)
    return Body(
        zone=zones.of(shape) or "local",
        kind=kind,
        message_key=shape.get("message_key", "message"),
        time_key=injected.get("time_key"),
        time_format=_time_format(shape) or injected.get("time_format"),
        tag_key=injected.get("tag_key"),
        delimiter=_delimiter(kind, shape.get("delimiter")),
        add_newline=shape.get("add_newline", True),
        output_time=shape.get("output_time", True),
        output_tag=shape.get("output_tag", True),
        fields=injected.get("fields", {}),
        by_event_time=True,
    )


def _time_format(shape: Section) -> str | None:
    if shape.get("time_type") == "unixtime":
        return "%s"
    # fluentd writes UTC as Z if it is told `utc`, and as +00:00 if that is the local zone, or what `timezone` names.
    utc = zones.of(shape) == "UTC" and "timezone" not in shape.values
    return str(shape.get("time_format", "") or ("%Y-%m-%dT%H:%M:%SZ" if utc else "")) or None


def _kind(section: Section, inner: Section | None) -> BodyKind:
    if inner:
        word, place = inner.get("@type") or inner.get("type") or "out_file", inner.place
    else:
        word, place = (
            section.get("format", "json" if section.get("format_json") else "out_file"),
            section.where("format"),
        )
    if word not in _KINDS:
        raise WrongSettings(f"{place}: format {word} is not known here; known are {', '.join(_KINDS)}")
    return _KINDS[word]


def _delimiter(kind: BodyKind, text: str | None) -> str:
    if kind != "out_file":
        return text or "\t"
    return next((sign for word, sign in _OUT_FILE_DELIMITERS if word in (text or "").lower()), "\t")


def _injected(section: Section) -> dict[str, Any]:
    """Read what is put into each record: from <inject>, or, as in 0.12, from the match itself."""
    inner = section.section("inject", INJECT)
    if inner is None:
        return {
            "time_key": section.get("time_key", "time") if section.get("include_time_key") else None,
            "tag_key": section.get("tag_key", "tag") if section.get("include_tag_key") else None,
        }
    if "time_key" in inner.values and inner.get("time_type", "float") != "string":
        raise inner.wrong("time_key", "is put in as text only; add time_type string")
    key = inner.get("hostname_key")
    return {**inner.values, "fields": {key: inner.get("hostname") or socket.gethostname()} if key else {}}
