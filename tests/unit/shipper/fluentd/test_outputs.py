"""`<match>` of @type s3, as an output of the plan."""

# ruff: noqa: E501  (a message stands whole, as its reader sees it)

from __future__ import annotations

import socket
from collections.abc import Mapping

import pytest
from msgspec.structs import asdict

from sidecars.core.units import Secret
from sidecars.shipper.fluentd.buffers import directory
from sidecars.shipper.plan import Body, Credentials, Destination, Layout
from tests.unit.shipper.fluentd.conf import SOURCE, Folder, match

DAY = 86400
ROLE = "role_arn arn:aws:iam::1:role/r\nrole_session_name s\n"
KEYS = "aws_key_id AKIA\naws_sec_key hunter2\n"


def differing(thing: object, default: object) -> dict[str, object]:
    """Give the fields that are not as they are by default."""
    defaults = asdict(default)  # type: ignore[arg-type]
    return {name: value for name, value in asdict(thing).items() if value != defaults[name]}  # type: ignore[arg-type]


def test_without_more_than_a_bucket_it_is_as_fluentd_has_it(folder: Folder) -> None:
    output = folder.output("")
    assert output.destination == Destination(
        bucket="b", region="us-east-1", content_type="application/x-gzip", create_bucket=True
    )
    assert output.layout == Layout(
        prefix="",
        key_format="%{path}%{time_slice}_%{index}.%{file_extension}",
        slice=DAY,
        slice_format=None,
        zone="local",
        wait=600,
        by_tag=False,
        compress="gzip",
        extension="gz",
    )
    assert output.body == Body(kind="out_file", by_event_time=True, zone="local")


@pytest.mark.parametrize(
    ("lines", "changed"),
    [
        ("time_slice_format %Y%m%d%H%M", {"slice": 60, "slice_format": "%Y%m%d%H%M"}),
        ("time_slice_format %Y/%m/%d/%H", {"slice": 3600, "slice_format": "%Y/%m/%d/%H"}),
        ("time_slice_format %Y%m%d%H%M%S\ntime_slice_wait 2m", {"slice": 1, "slice_format": "%Y%m%d%H%M%S", "wait": 120}),
        ("utc", {"zone": "UTC"}),
        ("utc false", {}),
        ("localtime false", {"zone": "UTC"}),
        ("timezone Asia/Tokyo", {"zone": "Asia/Tokyo"}),
        ("flush_interval 30", {"age": 30}),
        ("buffer_chunk_limit 8m", {"chunk_size": 8 << 20}),
        ("<buffer>\n</buffer>", {}),
        ("<buffer time>\ntimekey 1h\ntimekey_wait 0\ntimekey_use_utc true\n</buffer>", {"slice": 3600, "wait": 0, "zone": "UTC"}),
        ("<buffer tag, time>\ntimekey 60\ntimekey_zone +09:00\n</buffer>", {"slice": 60, "by_tag": True, "zone": "+09:00"}),
        ('<buffer ["tag", "time"]>\n</buffer>', {"by_tag": True}),
        ("<buffer tag>\n</buffer>", {"slice": 0, "slice_format": "", "wait": 0, "age": 60, "by_tag": True}),
        ("<buffer []>\nflush_interval 5s\n</buffer>", {"slice": 0, "slice_format": "", "wait": 0, "age": 5}),
        ("<buffer tag>\nflush_mode lazy\n</buffer>", {"slice": 0, "slice_format": "", "wait": 0, "by_tag": True}),
        ("<buffer time>\nflush_mode interval\n</buffer>", {"age": 60}),
        ("<buffer time>\nflush_mode immediate\n</buffer>", {"age": 1}),
        ("<buffer time>\nchunk_limit_size 4g\n</buffer>", {"chunk_size": 1 << 30}),
        ("time_slice_format %Y%m%d-%H\n<buffer time>\ntimekey 10m\n</buffer>", {"slice": 600, "slice_format": "%Y%m%d-%H"}),
        ("path logs/%Y/", {"prefix": "logs/%Y/"}),
        ("s3_object_key_format %{path}%{index}-%{hostname}.%{file_extension}\nindex_format %04x\nhex_random_length 16", {"key_format": "%{path}%{index}-%{hostname}.%{file_extension}", "index_format": "%04x", "hex_length": 16}),
        ("check_object false", {"key_format": "%{path}%{time_slice}_%{hms_slice}_%{uuid_flush}.%{file_extension}"}),
        ("path ${tag[1]}/", {"prefix": "${tag[1]}/", "by_tag": True}),
        ("store_as text", {"compress": "none", "extension": "txt"}),
        ("store_as json", {"compress": "none", "extension": "json"}),
        ("store_as zstd", {"compress": "zstd", "extension": "zst"}),
        ("store_as gzip_command", {}),
    ],
)  # fmt: skip
def test_chunks_are_cut_and_named_as_fluentd_would(folder: Folder, lines: str, changed: dict[str, object]) -> None:
    assert differing(folder.output(lines).layout, folder.output("").layout) == changed


@pytest.mark.parametrize(
    ("lines", "changed"),
    [
        ("s3_region eu-west-1", {"region": "eu-west-1"}),
        ("s3_endpoint http://minio:9000\nforce_path_style true", {"endpoint": "http://minio:9000", "addressing": "path"}),
        ("s3_endpoint minio:9000", {"endpoint": "https://minio:9000"}),
        ("s3_endpoint minio:9000\nuse_ssl false", {"endpoint": "http://minio:9000"}),
        ("enable_transfer_acceleration true\nenable_dual_stack true", {"accelerate": True, "dual_stack": True}),
        ("ssl_verify_peer false\nproxy_uri http://p:1", {"verify": False, "proxy": "http://p:1"}),
        ("ssl_ca_bundle /ca.pem\nssl_ca_directory /ca", {"ca_file": "/ca.pem"}),
        ("auto_create_bucket false", {"create_bucket": False}),
        ("check_bucket false", {"create_bucket": False}),
        ("acl private\ngrant_read a\ngrant_read_acp b\ngrant_write_acp c\ngrant_full_control d", {"acl": "private", "grant_read": "a", "grant_read_acp": "b", "grant_write_acp": "c", "grant_full_control": "d"}),
        ("storage_class STANDARD_IA", {"storage_class": "STANDARD_IA"}),
        ("reduced_redundancy true", {"storage_class": "REDUCED_REDUNDANCY"}),
        ("use_server_side_encryption aws:kms\nssekms_key_id k", {"encryption": "aws:kms", "kms_key_id": "k"}),
        ("use_server_side_encryption aes256", {"encryption": "AES256"}),
        ("tagging a=b&c=%20d", {"object_tags": {"a": "b", "c": " d"}}),
        ('s3_metadata {"a": "b", "n": 1}', {"metadata": {"a": "b", "n": "1"}}),
        ("store_as text", {"content_type": "text/plain"}),
        ("store_as json", {"content_type": "application/json"}),
        ("store_as zstd", {"content_type": "application/x-zst"}),
    ],
)  # fmt: skip
def test_objects_go_where_fluentd_would_put_them(folder: Folder, lines: str, changed: dict[str, object]) -> None:
    assert differing(folder.output(lines).destination, folder.output("").destination) == changed


def test_the_region_is_that_of_the_environment_unless_one_is_given(folder: Folder) -> None:
    environ = {"AWS_REGION": "eu-west-1"}
    assert folder.output("", environ).destination.region == "eu-west-1"
    assert folder.output("s3_region us-west-2", environ).destination.region == "us-west-2"


@pytest.mark.parametrize(
    ("lines", "credentials"),
    [
        ("", {}),
        ("<instance_profile_credentials>\n</instance_profile_credentials>", {"instance_profile": True}),
        ("aws_iam_retries 5", {"instance_profile": True}),
        ("aws_profile p\n<instance_profile_credentials>\n</instance_profile_credentials>", {"profile": "p"}),
        ("aws_credential_process /bin/x", {"process": "/bin/x"}),
        ("<shared_credentials>\npath /c\nprofile_name p\n</shared_credentials>", {"shared_file": "/c", "profile": "p"}),
        (
            f"<assume_role_credentials>\n{ROLE}external_id e\nduration_seconds 900\npolicy {{}}\nsts_endpoint_url http://sts\n</assume_role_credentials>",
            {"role_arn": "arn:aws:iam::1:role/r", "role_session_name": "s", "external_id": "e", "role_seconds": 900, "role_policy": "{}", "sts_endpoint": "http://sts", "sts_region": "us-east-1"},
        ),
        (
            f"<web_identity_credentials>\n{ROLE}web_identity_token_file /token\nsts_region eu-west-1\n</web_identity_credentials>\n<shared_credentials>\n</shared_credentials>",
            {"role_arn": "arn:aws:iam::1:role/r", "role_session_name": "s", "web_identity_token_file": "/token", "sts_region": "eu-west-1"},
        ),
        ('aws_key_id "#{ENV[\'NONE\']}"\naws_sec_key ""', {}),
    ],
)  # fmt: skip
def test_the_first_credentials_in_fluentds_order_count(
    folder: Folder, lines: str, credentials: Mapping[str, object]
) -> None:
    assert differing(folder.output(lines).destination.credentials, Credentials()) == credentials


def test_keys_are_secrets_and_win_unless_a_role_is_assumed_with_them(folder: Folder) -> None:
    instance = "<instance_profile_credentials>\n</instance_profile_credentials>\n"
    alone = folder.output(KEYS + instance).destination.credentials
    role = folder.output(f"{KEYS}{instance}<assume_role_credentials>\n{ROLE}</assume_role_credentials>")
    for credentials in (alone, role.destination.credentials):
        assert isinstance(credentials.access_key_id, Secret)
        assert isinstance(credentials.secret_access_key, Secret)
        assert (credentials.access_key_id.reveal(), credentials.secret_access_key.reveal()) == ("AKIA", "hunter2")
        assert not credentials.instance_profile
    assert (alone.role_arn, role.destination.credentials.role_arn) == (None, "arn:aws:iam::1:role/r")


@pytest.mark.parametrize(
    ("lines", "changed"),
    [
        ("format json", {"kind": "json"}),
        ("format_json true", {"kind": "json"}),
        ("format ltsv", {"kind": "ltsv"}),
        ("<format>\n</format>", {}),
        ("<format>\n@type json\n</format>", {"kind": "json"}),
        ("<format>\n@type single_value\nmessage_key log\nadd_newline false\n</format>", {"kind": "text", "message_key": "log", "add_newline": False}),
        ("format single_value", {"kind": "text"}),
        ("output_tag false\noutput_time false\ndelimiter COMMA", {"output_tag": False, "output_time": False, "delimiter": ","}),
        ("<format>\n@type out_file\ndelimiter SPACE\ntime_format %s\n</format>", {"delimiter": " ", "time_format": "%s"}),
        ("<format>\n@type out_file\ntime_type unixtime\n</format>", {"time_format": "%s"}),
        ("<format>\n@type ltsv\ndelimiter ,\n</format>", {"kind": "ltsv", "delimiter": ","}),
        ("utc", {"time_format": "%Y-%m-%dT%H:%M:%SZ", "zone": "UTC"}),
        ("utc\ntime_format %H", {"time_format": "%H", "zone": "UTC"}),
        ("include_time_key true\ninclude_tag_key true\ntime_format %Y", {"time_key": "time", "tag_key": "tag", "time_format": "%Y"}),
        ("include_time_key true\ntime_key at\ninclude_tag_key true\ntag_key from", {"time_key": "at", "tag_key": "from"}),
        ("time_key at\ntag_key from", {}),
        ("<inject>\ntime_key at\ntime_type string\ntime_format %Y\ntag_key from\n</inject>", {"time_key": "at", "tag_key": "from", "time_format": "%Y"}),
        ("<inject>\nhostname_key host\n</inject>", {"fields": {"host": socket.gethostname()}}),
        ("<inject>\nhostname_key host\nhostname web\n</inject>", {"fields": {"host": "web"}}),
    ],
)  # fmt: skip
def test_lines_become_what_fluentd_makes_of_them(folder: Folder, lines: str, changed: dict[str, object]) -> None:
    assert differing(folder.output(lines).body, folder.output("").body) == changed


@pytest.mark.parametrize(
    ("path", "folder_of_it"),
    [
        ("/var/log/", "/var/log"),
        ("/var/log/s3", "/var/log/s3"),
        ("/var/log/buffer/s3.*.log", "/var/log/buffer"),
        ("/var/log/s3.*", "/var/log"),
        ("/var/*/s3.log", "/var"),
        ("/*.log", "/"),
        ("buffer", "buffer"),
        ("s3.*.log", "."),
    ],
)
def test_the_directory_of_a_buffer_is_found(path: str, folder_of_it: str) -> None:
    assert directory(path) == folder_of_it


def test_the_state_goes_below_the_buffer_or_else_beside_the_offsets(folder: Folder) -> None:
    def state_dir(lines: str, more: str = "") -> str | None:
        return folder.plan(SOURCE.replace("tag app", f"tag app\n{more}") + match(lines)).state_dir

    assert state_dir("buffer_path /var/log/", "pos_file /pos/a.pos") == "/var/log/.sidecars"
    assert state_dir("<buffer>\n@type file\npath /buffer/s3.*.log\n</buffer>") == "/buffer/.sidecars"
    assert state_dir("", "pos_file /pos/a.pos") == "/pos/.sidecars"
    assert state_dir("") is None


def test_chunks_that_fluentd_left_are_warned_of(folder: Folder) -> None:
    for name in (
        "buffer/buffer.b513b61ac791d8ff67d3b4c7f0bcfa0f1.log",
        "buffer/buffer.q513b61ac791d8ff67d3b4c7f0bcfa0f2.log",
        "buffer/buffer.q513b61ac791d8ff67d3b4c7f0bcfa0f2.log.meta",
        "buffer/app.log",
        "old/s3.20260131.b513b61ac791d8ff67.log",
    ):
        folder.write("", name)
    for path, count in (("buffer", 2), ("buffer/buffer.*.log", 2), ("old/s3", 1), ("none", 0)):
        warnings = folder.warnings(SOURCE + match(f"buffer_path {folder.path}/{path}"))
        left = f"{folder.path}/{path}: {count} chunks that fluentd has not uploaded are left here; have fluentd upload them"
        assert [f"{folder.path}/{warning}" for warning in warnings] == [left] * bool(count)


def test_limits_hold_for_the_process_as_a_whole(folder: Folder) -> None:
    plan = folder.plan(SOURCE + match("buffer_queue_limit 4\nbuffer_chunk_limit 1m\nnum_threads 3"))
    assert (plan.backlog_limit, plan.upload_jobs) == (4 << 20, 3)
    plan = folder.plan(SOURCE + match("<buffer>\ntotal_limit_size 1g\nflush_thread_count 99\n</buffer>"))
    assert (plan.backlog_limit, plan.upload_jobs) == (1 << 30, 64)
    plan = folder.plan(SOURCE + match("<buffer>\ntotal_limit_size 1g\n</buffer>") + match("s3_bucket c"))
    assert (plan.backlog_limit, plan.upload_jobs) == (None, None)


@pytest.mark.parametrize(
    "lines",
    [
        "@id out_s3", "buffer_type memory", "flush_at_shutdown true", "try_flush_interval 1", "queued_chunk_flush_interval 1",
        "disable_retry_limit", "buffer_queue_full_action block", "check_apikey_on_start false", "compute_checksums true",
        "use_bundled_cert true", "signature_version v4", "slow_flush_log_threshold 10.0", "overwrite false",
        "<buffer>\nretry_forever true\nretry_type periodic\nretry_randomize false\noverflow_action block\n</buffer>",
        "<buffer>\ncompress gzip\nflush_thread_interval 0.5\ndelayed_commit_timeout 60s\ndisable_chunk_backup true\n</buffer>",
        "<instance_profile_credentials>\nretries 3\nhttp_open_timeout 1.5\n</instance_profile_credentials>",
    ],
)  # fmt: skip
def test_what_changes_nothing_is_taken_in_silence(folder: Folder, lines: str) -> None:
    assert folder.warnings(SOURCE + match(lines)) == []


KEPT = "what cannot be uploaded is kept and tried for ever, nothing is ever dropped"


@pytest.mark.parametrize(
    ("lines", "warning"),
    [
        ("retry_limit 3", f"retry_limit differs here: {KEPT}"),
        ("buffer_queue_full_action drop_oldest_chunk", "buffer_queue_full_action differs here: at the limit reading stops, nothing is ever dropped"),
        ("<secondary>\n@type file\npath /x\n</secondary>", f"<secondary> differs here: {KEPT}"),
        ("<bucket_lifecycle_rule>\nid a\n</bucket_lifecycle_rule>", "<bucket_lifecycle_rule> differs here: the rules of the bucket are not changed"),
        ("overwrite true", "overwrite differs here: no object is ever overwritten"),
        ("signature_version s3", "signature_version differs here: requests are signed with version 4"),
        ("store_as gzip_command", "store_as gzip_command is gzip here, without a command"),
        ("check_object false", "keys are %{path}%{time_slice}_%{hms_slice}_%{uuid_flush}.%{file_extension}, so that none is used twice"),
        ("path ${tag}/", "path has the tag in it: each tag has chunks of its own"),
        ("<buffer>\nretry_timeout 72h\n</buffer>", f"retry_timeout differs here: {KEPT}"),
        ("<buffer>\nflush_interval 5s\n</buffer>", "flush_interval has no effect without flush_mode interval, in fluentd neither"),
        ("<buffer>\nchunk_limit_records 5\n</buffer>", "chunk_limit_records differs here: chunks are cut by time and size only"),
        ("buffer_path /x\n<buffer>\n</buffer>", "buffer_path has no effect beside <buffer>; move it there"),
        ("<buffer tag>\n</buffer>\npath %Y/", "keys have a date in them: without time in <buffer> it is that of the first line"),
    ],
)  # fmt: skip
def test_what_differs_is_warned_of_with_its_line(folder: Folder, lines: str, warning: str) -> None:
    (only,) = folder.warnings(SOURCE + match(lines))
    place, _, text = only.partition(": ")
    assert (place.rpartition(":")[0], text) == ("fluent.conf", warning)
    assert 10 < int(place.rpartition(":")[2]) < 16


def test_times_in_objects_have_a_zone_of_their_own(folder: Folder) -> None:
    made = folder.output(
        "<buffer>\ntimekey_zone +09:00\n</buffer>\n<format>\n@type out_file\ntimezone +05:30\n</format>"
    )
    assert (made.layout.zone, made.body.zone) == ("+09:00", "+05:30")
    assert folder.output("<buffer>\ntimekey_zone +09:00\n</buffer>").body.zone == "local"


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("store_as lzo", "store_as is 'lzo', expected one of gzip, gzip_command, text, json, zstd"),
        ("store_as parquet", "store_as is 'parquet', expected one of gzip, gzip_command, text, json, zstd"),
        ("format csv", "format csv is not known here; known are out_file, json, ltsv, single_value"),
        ("index_format %s", "index_format is '%s', expected %d, %04d, %x or %X"),
        ("hex_random_length 17", "hex_random_length is '17', expected a whole number from 1 to 16"),
        ("use_server_side_encryption rot13", "use_server_side_encryption is 'rot13', expected one of AES256, aes256, aws:kms"),
        ("sse_customer_key k", "sse_customer_key is not supported: objects would be stored without the customer's key; use use_server_side_encryption"),
        ("ssl_ca_directory /ca", "ssl_ca_directory is not supported; put its certificates in one file, as ssl_ca_bundle"),
        ("s3_metadata {\"a\": \"${tag}\"}", "s3_metadata has a placeholder in a, which is not supported; write a plain text"),
        ("tagging a", "tagging is not what it can be, expected name=value&name=value"),
        ("<buffer tag,user>\n</buffer>", "<buffer tag,user> cuts chunks by the field user of the record, which is not supported; use time, tag, or both"),
        ("<buffer>\ntimekey 0.5\n</buffer>", "timekey is 0.5 seconds, expected a whole second or more"),
        ("<buffer>\ntimekey_zone Nowhere\n</buffer>", "timekey_zone is 'Nowhere': time zone 'Nowhere' is not known; use one such as UTC, Asia/Tokyo or +09:00"),
        ("<buffer>\n@type redis\n</buffer>", "@type is 'redis', expected one of memory, file, file_single"),
        ("<buffer>\nflush_thread_count 0\n</buffer>", "flush_thread_count is '0', expected a whole number from 1 to 1000"),
        ("<buffer>\nchunk_limit_size 0\n</buffer>", "the size of chunks is limited to 0, which lets nothing through"),
        ("<buffer>\n</buffer>\n<buffer>\n</buffer>", "<buffer> is there twice; leave one out"),
        ("<inject>\ntime_key at\n</inject>", "time_key is put in as text only; add time_type string"),
        ("<assume_role_credentials>\nrole_arn a\n</assume_role_credentials>", "<assume_role_credentials> has no role_session_name; add it"),
        ("aws_key_id <YOUR_AWS_ACCESS_KEY_ID>", "aws_key_id is still the placeholder <YOUR_AWS_ACCESS_KEY_ID>; put the value there"),
        ("s3_bucket <YOUR_S3_BUCKET_NAME>", "s3_bucket is still the placeholder <YOUR_S3_BUCKET_NAME>; put the value there"),
        ("aws_key_id AKIA", "aws_key_id is set and aws_sec_key is not, or empty; a key has both: add it, or leave both out"),
        ("aws_sec_key hunter2", "aws_sec_key is set and aws_key_id is not, or empty; a key has both: add it, or leave both out"),
        ("s3_bukcet b", "s3_bukcet in a match of @type s3 is not known here; did you mean s3_bucket?; --ignore-unknown warns of it instead"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_line(folder: Folder, lines: str, error: str) -> None:
    place, _, text = folder.refused(SOURCE + match(lines)).partition(": ")
    assert (place.rpartition(":")[0], text) == ("fluent.conf", error)
    assert 8 < int(place.rpartition(":")[2]) < 16


def test_facts_of_the_pod_may_be_in_keys(folder: Folder) -> None:
    environ = {"POD_NAME": "web-0", "NODE_NAME": "n"}
    assert folder.output("path logs/{pod}/{node}/", environ).layout.prefix == "logs/{pod}/{node}/"


@pytest.mark.parametrize(
    "format",
    ["%{path}%{time_slice}.gz", "%{path}%{indx}", "${user}/%{index}", "%{uuid:random}%{index}", "%{index}{pod}"],
)
def test_a_format_that_gives_no_keys_is_refused_with_its_line(folder: Folder, format: str) -> None:
    assert folder.refused(SOURCE + match(f"s3_object_key_format {format}")).startswith("fluent.conf:11: key format ")


SECRET = "wJalrXUtnFEMI7MDENG"


@pytest.mark.parametrize(
    "lines",
    [
        f"aws_sec_key {SECRET}", f"aws_sec_key={SECRET}", f"aws_sec_kye {SECRET}", f"{SECRET} aws_sec_key", f"aws_sec_key\n{SECRET}",
        f'aws_sec_key {SECRET} "', f'aws_sec_key "{SECRET}" x', f'aws_sec_key "{SECRET}', f'aws_sec_key ["{SECRET}',
        f"<aws_sec_key {SECRET}>\n</aws_sec_key>", f"aws_sec_key [{SECRET}]", f"s3_region http://u:{SECRET}@p\nstore_as http://u:{SECRET}@p",
        f"warn_for_delay http://u:{SECRET}@p",
    ],
)  # fmt: skip
def test_no_secret_is_in_an_error(folder: Folder, lines: str) -> None:
    assert SECRET not in folder.refused(SOURCE + match(lines))


def test_the_value_of_a_variable_is_not_in_an_error(folder: Folder) -> None:
    error = folder.refused(SOURCE + match("time_slice_wait \"#{ENV['WAIT']}\""), {"WAIT": "hunter2"})
    assert error.endswith("time_slice_wait is '\"#{ENV[\\'WAIT\\']}\"', expected seconds, or 10s, 5m, 1h, 1d")
