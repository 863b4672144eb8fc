"""Every parameter that is known in each section of fluentd's configuration, and what is different here for some.

Sources: in_tail.rb, parser.rb, buffer.rb, output.rb and compat_parameters.rb of fluentd 1.19 and 0.12; out_s3.rb of
fluent-plugin-s3 1.8 and 0.6.
"""

from __future__ import annotations

from typing import NamedTuple

from sidecars.shipper.fluentd.values import (
    ARRAY,
    FILLED,
    FLAG,
    INDEX_FORMAT,
    INTEGER,
    MAPPING,
    NUMBER,
    SIZE,
    TEXT,
    TIME,
    Reader,
    between,
    chosen,
)


class Table(NamedTuple):
    """What a section may hold.

    known     its parameters, and how each is read
    sections  the names of its inner elements
    notes     what differs here: said of a parameter that is given and neither false nor empty; of `name=value`, only
              with this value
    """

    title: str
    known: dict[str, Reader]
    sections: tuple[str, ...] = ()
    notes: dict[str, str] = {}  # noqa: RUF012  (a default that is not changed)


_KEPT = "what cannot be uploaded is kept and tried for ever, nothing is ever dropped"
_PACE = "retries have a pace of their own here, from a second to a minute or so, with jitter"
_LEVEL = "the level of this program's log is that of --log-level"

_PLUGIN = {"@type": TEXT, "type": TEXT, "@id": TEXT, "id": TEXT, "@label": TEXT, "@log_level": TEXT, "log_level": TEXT}
_LEVELS = {"@log_level": _LEVEL, "log_level": _LEVEL}
_ZONE = {"timezone": FILLED, "utc": FLAG, "localtime": FLAG}

PARSE = Table(
    "<parse>",
    {
        "@type": TEXT,
        "type": TEXT,
        "expression": FILLED,
        "ignorecase": FLAG,
        "multiline": FLAG,
        "message_key": FILLED,
        "time_key": TEXT,
        "time_format": TEXT,
        "time_type": chosen("string", "float", "unixtime"),
        "keep_time_key": FLAG,
        "estimate_current_event": FLAG,
        "types": TEXT,
        "types_delimiter": FILLED,
        "types_label_delimiter": FILLED,
        "null_value_pattern": FILLED,
        "null_empty_string": FLAG,
        "format_firstline": FILLED,
        **{f"format{number}": FILLED for number in range(1, 21)},
        "json_parser": chosen("oj", "yajl", "json"),
        "stream_buffer_size": INTEGER,
        "timeout": TIME,
        "unmatched_lines": FLAG,
        **_ZONE,
    },
    notes={
        "ignorecase": "it has no effect, in fluentd neither; write /.../i",
        "multiline": "it has no effect, in fluentd neither; write /.../m",
    },
)

TAIL = Table(
    "a source of @type tail",
    {
        **_PLUGIN,
        **PARSE.known,
        "format": FILLED,
        "path": FILLED,
        "path_delimiter": FILLED,
        "glob_policy": chosen("backward_compatible", "extended", "always"),
        "tag": FILLED,
        "exclude_path": ARRAY,
        "pos_file": FILLED,
        "pos_file_compaction_interval": TIME,
        "read_from_head": FLAG,
        "rotate_wait": TIME,
        "refresh_interval": TIME,
        "read_lines_limit": INTEGER,
        "read_bytes_limit_per_second": TEXT,
        "multiline_flush_interval": TIME,
        "emit_unmatched_lines": FLAG,
        "enable_watch_timer": FLAG,
        "enable_stat_watcher": FLAG,
        "encoding": FILLED,
        "from_encoding": FILLED,
        "path_key": FILLED,
        "open_on_every_update": FLAG,
        "limit_recently_modified": TIME,
        "skip_refresh_on_startup": FLAG,
        "ignore_repeated_permission_error": FLAG,
        "path_timezone": FILLED,
        "follow_inodes": FLAG,
        "max_line_size": SIZE,
    },
    ("parse", "group"),
    {
        **_LEVELS,
        **PARSE.notes,
        "emit_unmatched_lines": "a line that does not match is shipped in any case, under message_key",
        "limit_recently_modified": "files are read however old they are",
        "max_line_size": "longer lines are shipped too",
        "multiline_flush_interval": "the last record of a file is shipped when nothing was added to it for a second",
        "read_bytes_limit_per_second": "reading is not slowed down",
    },
)

BUFFER = Table(
    "<buffer>",
    {
        "@type": chosen("memory", "file", "file_single"),
        "type": chosen("memory", "file", "file_single"),
        "@id": TEXT,
        "@log_level": TEXT,
        "path": FILLED,
        "path_suffix": TEXT,
        "file_permission": TEXT,
        "dir_permission": TEXT,
        "calc_num_records": FLAG,
        "chunk_format": TEXT,
        "timekey": TIME,
        "timekey_wait": TIME,
        "timekey_use_utc": FLAG,
        "timekey_zone": FILLED,
        "chunk_limit_size": SIZE,
        "chunk_limit_records": INTEGER,
        "chunk_full_threshold": NUMBER,
        "total_limit_size": SIZE,
        "queue_limit_length": INTEGER,
        "queued_chunks_limit_size": INTEGER,
        "compress": chosen("text", "gzip", "zstd"),
        "flush_at_shutdown": FLAG,
        "flush_mode": chosen("default", "lazy", "interval", "immediate"),
        "flush_interval": TIME,
        "flush_thread_count": between(1, 1000),
        "flush_thread_interval": NUMBER,
        "flush_thread_burst_interval": NUMBER,
        "delayed_commit_timeout": TIME,
        "overflow_action": chosen("throw_exception", "block", "drop_oldest_chunk"),
        "retry_forever": FLAG,
        "retry_timeout": TIME,
        "retry_max_times": INTEGER,
        "retry_secondary_threshold": NUMBER,
        "retry_type": chosen("exponential_backoff", "periodic"),
        "retry_wait": TIME,
        "retry_exponential_backoff_base": NUMBER,
        "retry_max_interval": TIME,
        "retry_randomize": FLAG,
        "disable_chunk_backup": FLAG,
    },
    notes={
        "chunk_limit_records": "chunks are cut by time and size only",
        "flush_mode=immediate": "lines are uploaded once a second at most",
        "overflow_action=drop_oldest_chunk": "at the limit reading stops, nothing is ever dropped",
        "retry_max_times": _KEPT,
        "retry_timeout": _KEPT,
        "retry_max_interval": _PACE,
        "retry_wait": _PACE,
    },
)

# The words of 0.12 for what is in <buffer> since.
OLD_BUFFER = {
    "buffer_type": "@type",
    "buffer_path": "path",
    "buffer_chunk_limit": "chunk_limit_size",
    "buffer_queue_limit": "queue_limit_length",
    "buffer_queue_full_action": "overflow_action",
    "num_threads": "flush_thread_count",
    "flush_interval": "flush_interval",
    "flush_at_shutdown": "flush_at_shutdown",
    "try_flush_interval": "flush_thread_interval",
    "queued_chunk_flush_interval": "flush_thread_burst_interval",
    "disable_retry_limit": "retry_forever",
    "retry_limit": "retry_max_times",
    "retry_wait": "retry_wait",
    "max_retry_wait": "retry_max_interval",
    "time_slice_wait": "timekey_wait",
}

FORMAT = Table(
    "<format>",
    {
        "@type": TEXT,
        "type": TEXT,
        "output_time": FLAG,
        "output_tag": FLAG,
        "time_format": FILLED,
        "time_type": chosen("string", "unixtime"),
        "delimiter": TEXT,
        "label_delimiter": chosen(":"),
        "replacement": chosen(" "),
        "message_key": FILLED,
        "add_newline": FLAG,
        "newline": chosen("lf"),
        "json_parser": chosen("oj", "yajl", "json"),
        **_ZONE,
    },
)

INJECT = Table(
    "<inject>",
    {
        "hostname_key": FILLED,
        "hostname": FILLED,
        "tag_key": FILLED,
        "time_key": FILLED,
        "time_type": chosen("string", "float", "unixtime"),
        "time_format": FILLED,
        **_ZONE,
    },
)

ROLE = Table(
    "<assume_role_credentials>",
    {
        "role_arn": FILLED,
        "role_session_name": FILLED,
        "policy": FILLED,
        "duration_seconds": INTEGER,
        "external_id": FILLED,
        "sts_region": FILLED,
        "sts_http_proxy": FILLED,
        "sts_endpoint_url": FILLED,
    },
    notes={"sts_http_proxy": "a proxy for STS alone is not supported; set HTTPS_PROXY and NO_PROXY"},
)
WEB_IDENTITY = Table("<web_identity_credentials>", {**ROLE.known, "web_identity_token_file": FILLED}, notes=ROLE.notes)
INSTANCE = Table(
    "<instance_profile_credentials>",
    {
        "retries": INTEGER,
        "ip_address": FILLED,
        "port": INTEGER,
        "http_open_timeout": NUMBER,
        "http_read_timeout": NUMBER,
    },
    notes=dict.fromkeys(("ip_address", "port"), "set AWS_EC2_METADATA_SERVICE_ENDPOINT for another address"),
)
SHARED = Table("<shared_credentials>", {"path": FILLED, "profile_name": FILLED})

S3 = Table(
    "a match of @type s3",
    {
        **_PLUGIN,
        "aws_key_id": TEXT,
        "aws_sec_key": TEXT,
        "aws_profile": FILLED,
        "aws_credential_process": FILLED,
        "aws_iam_retries": INTEGER,
        "s3_bucket": FILLED,
        "s3_region": FILLED,
        "s3_endpoint": FILLED,
        "use_ssl": FLAG,
        "force_path_style": FLAG,
        "enable_transfer_acceleration": FLAG,
        "enable_dual_stack": FLAG,
        "use_bundled_cert": FLAG,
        "ssl_verify_peer": FLAG,
        "ssl_ca_bundle": FILLED,
        "ssl_ca_directory": FILLED,
        "proxy_uri": FILLED,
        "signature_version": chosen("s3", "v4"),
        "compute_checksums": FLAG,
        "checksum_algorithm": TEXT,
        "path": TEXT,
        "s3_object_key_format": FILLED,
        "index_format": INDEX_FORMAT,
        "hex_random_length": between(1, 16),
        "store_as": chosen("gzip", "gzip_command", "text", "json", "zstd"),
        "check_bucket": FLAG,
        "auto_create_bucket": FLAG,
        "check_apikey_on_start": FLAG,
        "check_object": FLAG,
        "overwrite": FLAG,
        "acl": FILLED,
        "grant_full_control": FILLED,
        "grant_read": FILLED,
        "grant_read_acp": FILLED,
        "grant_write_acp": FILLED,
        "storage_class": FILLED,
        "reduced_redundancy": FLAG,
        "use_server_side_encryption": chosen("AES256", "aes256", "aws:kms"),
        "ssekms_key_id": FILLED,
        "tagging": FILLED,
        "s3_metadata": MAPPING,
        "sse_customer_algorithm": TEXT,
        "sse_customer_key": TEXT,
        "sse_customer_key_md5": TEXT,
        "warn_for_delay": TIME,
        "slow_flush_log_threshold": NUMBER,
        "time_as_integer": FLAG,
        **{old: BUFFER.known[new] for old, new in OLD_BUFFER.items()},
        "buffer_queue_full_action": chosen("exception", "block", "drop_oldest_chunk"),
        "time_slice_format": FILLED,
        **{name: reader for name, reader in FORMAT.known.items() if "type" not in name},
        "format": FILLED,
        "format_json": FLAG,
        "include_time_key": FLAG,
        "time_key": FILLED,
        "include_tag_key": FLAG,
        "tag_key": FILLED,
    },
    ("buffer", "format", "inject", "secondary", "compress", "assume_role_credentials", "web_identity_credentials",
     "instance_profile_credentials", "shared_credentials", "bucket_lifecycle_rule"),
    {
        **_LEVELS,
        **{old: BUFFER.notes[new] for old, new in OLD_BUFFER.items() if new in BUFFER.notes},
        "buffer_queue_full_action=drop_oldest_chunk": BUFFER.notes["overflow_action=drop_oldest_chunk"],
        "overwrite": "no object is ever overwritten",
        "signature_version=s3": "requests are signed with version 4",
        "time_as_integer": "times keep their fractions",
        "warn_for_delay": "it is not said when lines are late; see the metric oldest_undelivered_seconds",
    },
)  # fmt: skip

# What an object must not be stored without, if it is asked for; --ignore-unknown does not change that.
UNSUPPORTED = {
    **dict.fromkeys(
        ("sse_customer_algorithm", "sse_customer_key", "sse_customer_key_md5"),
        "is not supported: objects would be stored without the customer's key; use use_server_side_encryption",
    ),
    "ssl_ca_directory": "is not supported; put its certificates in one file, as ssl_ca_bundle",
}

# Inner elements of a match that are not looked into, and what becomes of them.
UNREAD = {
    "secondary": _KEPT,
    "compress": "the level of compression is our own",
    "bucket_lifecycle_rule": "the rules of the bucket are not changed",
}

SYSTEM = Table(
    "<system>",
    dict.fromkeys(
        ("workers", "process_name", "root_dir", "rpc_endpoint", "file_permission", "dir_permission", "umask",
         "log_level", "suppress_repeated_stacktrace", "ignore_same_log_interval", "ignore_repeated_log_interval",
         "emit_error_log_interval", "without_source", "with_source_only", "suppress_config_dump", "enable_get_dump",
         "enable_msgpack_time_support", "strict_config_value", "disable_shared_socket", "enable_input_metrics",
         "enable_size_metrics", "enable_jit", "restart_worker_interval"), TEXT
    ),
    ("log", "metrics", "counter_server", "counter_client", "source_only_buffer"),
    {
        "log_level": _LEVEL,
        "root_dir": "state goes below <buffer> path, or beside pos_file",
        "without_source": "sources are read",
        "workers": "there is one process, which needs no more",
    },
)  # fmt: skip
