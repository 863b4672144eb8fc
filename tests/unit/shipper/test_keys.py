"""Object keys: what formats mean, which are refused, and that no two chunks share a key."""

from __future__ import annotations

import hashlib
import re

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sidecars.core.errors import WrongSettings
from sidecars.shipper.keys import ChunkFacts, KeyFormat, key_format
from sidecars.shipper.plan import Layout

ID = "0123456789ab4def8123456789abcdef"
SLICE, OPENED = 1_769_851_800, 1_769_851_905.25  # 2026-01-31 09:30:00 and 09:31:45 UTC
FACTS = ChunkFacts(id=ID, tag="web.access.eu", slice=SLICE, opened=OPENED)
KNOWN = {"hostname": "host", "pod": "web-0", "namespace": "shop", "node": "node-7"}


def made(text: str, **layout: object) -> KeyFormat:
    return key_format(Layout(key_format=text, **layout), KNOWN, extension="log.gz")


@pytest.mark.parametrize(
    ("text", "layout", "key"),
    [
        # fluentd's
        ("%{path}%{time_slice}_%{index}.%{file_extension}", {"prefix": "logs/"}, "logs/202601310930_3.log.gz"),
        ("%{path}/%{date_slice}_%{hms_slice}_%{index}", {"prefix": "p", "slice": 86_400}, "p/20260131_093145_3"),
        ("%{time_slice}_%{index}", {"slice_format": "%Y-%m-%d/%H"}, "2026-01-31/09_3"),
        ("%{hex_random}/%{index}", {}, "0123/3"),
        ("%{hex_random}/%{index}", {"hex_length": 7}, "0123456/3"),
        ("%{hex_random}", {"hex_length": 16}, "0123456789ab4def"),
        ("%{uuid_flush}", {}, "01234567-89ab-4def-8123-456789abcdef"),
        ("%{hostname}/${chunk_id}", {}, f"host/{ID}"),
        ("${tag}/${tag[0]}/${tag[2]}/${tag[-1]}/${tag[-3]}/%{index}", {}, "web.access.eu/web/eu/eu/web/3"),
        ("a${tag[3]}b${tag[-4]}c%{index}", {}, "abc3"),
        # Fluent Bit's
        ("/logs/$TAG/%Y/%m/%d/%H/%M/%S/$UUID-$INDEX.gz", {}, "logs/web.access.eu/2026/01/31/09/30/00/01234567-3.gz"),
        ("$TAG[0]/$TAG[2]$TAGx/$INDEX", {}, "web/euweb.access.eux/3"),
        # ours
        ("{namespace}/{pod}/{node}/{hostname}/{tag}/{chunk}", {}, f"shop/web-0/node-7/host/web.access.eu/{ID}"),
        # strftime
        ("%F/%-d %b %j-{chunk}", {}, f"2026-01-31/31 Jan 031-{ID}"),
        ("%Y%m%dT%H%M%S%:z-{chunk}", {"zone": "+09:00"}, f"20260131T183000+09:00-{ID}"),
        ("%H:%M-{chunk}", {"zone": "America/New_York"}, f"04:30-{ID}"),
        ("%{time_slice} %{hms_slice} {chunk}", {"zone": "Asia/Tokyo"}, f"202601311830 183145 {ID}"),
        ("100%%/%%{chunk}", {}, f"100%/%{ID}"),
        # in the prefix
        ("%{path}%{index}", {"prefix": "${tag[1]}/$TAG[2]/{pod}/%Y/%H/"}, "access/eu/web-0/2026/09/3"),
        ("%{path}x.gz", {"prefix": "a/%{uuid_flush}/"}, "a/01234567-89ab-4def-8123-456789abcdef/x.gz"),
        ("%{path}/%{path}{chunk}", {"prefix": "a"}, f"a/a{ID}"),
        # the index
        ("%{index}", {"index_format": "%04d"}, "0003"),
        ("%{index}", {"index_format": "%010x"}, "0000000003"),
        ("%{index}/%Y/%{index}", {}, "3/2026/3"),
        ("%{index}-{chunk}", {}, f"3-{ID}"),
        # no placeholders
        ("$5 for } $ {chunk}", {}, f"$5 for }} $ {ID}"),
    ],
)  # fmt: skip
def test_a_key_is_what_its_format_says(text: str, layout: dict[str, object], key: str) -> None:
    assert made(text, **layout).render(FACTS, 3) == key


def test_without_slices_times_are_those_of_the_first_line() -> None:
    facts = msgspec.structs.replace(FACTS, slice=0)
    layout = {"slice": 0, "prefix": "%Y/"}
    assert made("%{path}%{time_slice}_%M%S.%L_%{index}", **layout).render(facts, 0) == "2026/20260131093145_3145.250_0"
    assert made("%{path}%{time_slice}_%{index}", **layout, slice_format="").render(facts, 0) == "2026/_0"


def test_the_default_format_needs_neither_an_index_nor_the_downward_api() -> None:
    found = key_format(Layout(prefix="logs/"), {}, extension="log.zst")
    assert (found.unique, found.indexed) == (True, False)
    assert found.render(FACTS, None) == f"logs/202601310930-{ID}.log.zst"


@pytest.mark.parametrize(
    ("text", "layout", "unique", "indexed"),
    [
        ("{chunk}", {}, True, False),
        ("${chunk_id}", {}, True, False),
        ("%{uuid_flush}", {}, True, False),
        ("%{hex_random}", {"hex_length": 16}, True, False),
        ("%{path}", {"prefix": "{chunk}"}, True, False),
        ("%{index}", {}, False, True),
        ("$INDEX", {}, False, True),
        ("%{path}", {"prefix": "%{index}"}, False, True),
        ("%{hex_random}_%{index}", {"hex_length": 15}, False, True),
        ("$UUID$INDEX", {}, False, True),
        # What has the id needs no index to be told from others, and so neither a list of the bucket.
        ("{chunk}_%{index}", {}, True, False),
    ],
)
def test_a_format_knows_what_makes_its_keys_unique(
    text: str, layout: dict[str, object], unique: bool, indexed: bool
) -> None:
    found = made(text, **layout)
    assert (found.unique, found.indexed) == (unique, indexed)


SAME = "can give two chunks the same key; add {chunk}, ${chunk_id} or %{uuid_flush}, or %{index}"
SHARED = "a chunk holds lines of several tags; leave the tag out, or let each tag have chunks of its own"


@pytest.mark.parametrize(
    ("text", "layout", "error"),
    [
        ("%{path}%{time_slice}.gz", {}, f"key format '%{{path}}%{{time_slice}}.gz' {SAME}"),
        ("%{path}/%{time_slice}_%{hms_slice}.%{file_extension}", {}, SAME),
        ("$TAG/%Y/%m/%d/%H/%M/%S", {}, SAME),
        ("%{hex_random}", {}, SAME),
        ("%{hex_random}", {"hex_length": 15}, SAME),
        ("$UUID", {}, SAME),
        ("", {}, SAME),
        ("{pod}{tag}{node}", {"prefix": "{chunk}"}, SAME),
        ("${tag}/{chunk}", {"by_tag": False}, SHARED),
        ("$TAG[0]/{chunk}", {"by_tag": False}, SHARED),
        ("%{path}{chunk}", {"by_tag": False, "prefix": "${tag[1]}"}, SHARED),
        ("{chunk}%{idnex}", {}, "has %{idnex}, which is not known; did you mean %{index}?"),
        ("{chunk}{pods}", {}, "has {pods}, which is not known; did you mean {pod}?"),
        ("{chunk}$TAGS[1]$tag", {}, "has $tag, which is not known; did you mean ${tag}?"),
        ("{chunk}${tag[x]}", {}, "has ${tag[x]}, which is not known; did you mean ${tag[0]}?"),
        ("{chunk}$TAG[-1]", {}, "has $TAG[-1], which is not known; did you mean $TAG[0]?"),
        ("%{uuid:random}", {}, "has %{uuid:random}, which is not known; did you mean %{uuid_flush}?"),
        ("{chunk}${kubernetes.pod_name}", {}, "has ${kubernetes.pod_name}, which is not known; known are %{path} "),
        ("{chunk}%{path", {}, "has %{path, which is not known; did you mean %{path}?"),
        ("{chunk}{", {}, "has {, which is not known; known are"),
        ("{chunk}%Q", {}, "has %Q, which strftime does not know; %% is a percent sign"),
        ("{chunk}%t", {}, "has %t, which strftime does not know"),
        ("{chunk}%", {}, "has %, which strftime does not know"),
        ("{chunk}100% sure", {}, "has % , which strftime does not know"),
        ("{chunk}%999Y", {}, "has %, which strftime does not know"),
        ("{chunk}%{path}", {"prefix": "%{path}"}, "prefix '%{path}' has %{path}, which is not known; it is the prefix"),
        ("{chunk}%{path}", {"prefix": "{tags}"}, "prefix '{tags}' has {tags}, which is not known; did you mean {tag}?"),
        ("{chunk}", {"slice_format": "%Y%q"}, "time slice format '%Y%q' has %q, which strftime does not know"),
        ("{chunk}", {"index_format": "%4d"}, "index format '%4d' is not known; use %d, %04d, %x or %X"),
        ("{chunk}", {"index_format": "%d%d"}, "index format '%d%d' is not known"),
        ("{chunk}", {"index_format": "%021d"}, "index format '%021d' is not known"),
        ("{chunk}", {"index_format": "n"}, "index format 'n' is not known"),
        ("{chunk}", {"hex_length": 17}, "length of %{hex_random} is 17, expected 1 to 16"),
        ("{chunk}", {"hex_length": 0}, "length of %{hex_random} is 0, expected 1 to 16"),
        ("{chunk}", {"zone": "Berlin"}, "time zone 'Berlin' is not known; did you mean Europe/Berlin?"),
        ("{chunk}%{path}", {"prefix": "ä" * 500}, "makes keys of 1032 bytes, S3 takes 1024; shorten them"),
    ],
)
def test_a_format_that_cannot_be_meant_is_refused(text: str, layout: dict[str, object], error: str) -> None:
    with pytest.raises(WrongSettings) as refused:
        made(text, **layout)
    assert error in str(refused.value)


@pytest.mark.parametrize(
    ("text", "fact", "advice"),
    [
        ("{pod}{chunk}", "pod", "set POD_NAME by the downward API (fieldRef metadata.name)"),
        ("{namespace}{chunk}", "namespace", "set POD_NAMESPACE by the downward API (fieldRef metadata.namespace)"),
        ("{node}{chunk}", "node", "set NODE_NAME by the downward API (fieldRef spec.nodeName)"),
        ("{hostname}{chunk}", "hostname", "give the pod a hostname"),
        ("%{hostname}{chunk}", "hostname", "give the pod a hostname"),
    ],
)
def test_a_fact_that_is_not_known_is_asked_for_only_where_it_is_used(text: str, fact: str, advice: str) -> None:
    layout = Layout(key_format=text)
    for without in ({**KNOWN, fact: ""}, {name: value for name, value in KNOWN.items() if name != fact}):
        with pytest.raises(WrongSettings, match=re.escape(advice)):
            key_format(layout, without, extension="gz")
        key_format(Layout(key_format="{chunk}"), without, extension="gz")


# Hostile text


@pytest.mark.parametrize(
    ("text", "tag", "key"),
    [
        ("${tag}/%{index}", "../../etc/passwd", "_/_/etc/passwd/3"),
        ("${tag}/%{index}", "a/./b/...", "a/_/b/.../3"),
        ("${tag[0]}..${tag[1]}/%{index}", "x.y", "x..y/3"),
        ("a/${tag[0]}./%{index}", ".", "a/_/3"),
        ("${tag}/%{index}", "//evil", "evil/3"),
        ("${tag[5]}/%{index}", "x", "3"),
        ("${tag}/%{index}", "a\nb\0c\x7f\x9b31m\u2028\u202e", "a_b_c__31m__/3"),
        ("${tag}/%{index}", "\udcff\ufffe", "__/3"),
        ("${tag}%{index}", "größe%Y{pod}%{index}${tag}", "größe%Y{pod}%{index}${tag}3"),
        ("${tag}.%{index}", ".", "..3"),
    ],
)
def test_what_a_tag_says_stays_in_its_place(text: str, tag: str, key: str) -> None:
    assert made(text).render(msgspec.structs.replace(FACTS, tag=tag), 3) == key


@pytest.mark.parametrize("text", ["${tag}/{chunk}.gz", "{chunk}/${tag}", "${tag}/%{index}/$TAG[0]/$TAG/%{uuid_flush}"])
def test_long_tags_are_shortened_and_the_id_is_not(text: str) -> None:
    found = made(text)
    key = found.render(msgspec.structs.replace(FACTS, tag="日本語" * 1000), 10**15)
    assert 1000 < len(key.encode()) <= 1024
    assert ID in key.replace("-", "")
    assert key.startswith("日本語" * 10) or key.startswith(f"{ID}/日本語")


tags = (
    st.text(max_size=30)
    | st.text("./.a-\n日", max_size=2000)
    | st.from_regex(r"[a-z]{1,5}(\.[a-z]{1,5}){0,3}", fullmatch=True)
)
# As far from each other as ids drawn at random are, and as repeatable as the rest.
random_ids = st.integers(0, 1 << 64).map(lambda drawn: hashlib.sha256(str(drawn).encode()).hexdigest()[:32])
any_ids = st.text("0123456789abcdef", min_size=32, max_size=32)
epochs = st.integers(0, 4_000_000_000)
indices = st.integers(0, 20) | st.integers(0, 10**15)
chunks = st.builds(ChunkFacts, id=random_ids, tag=tags, slice=epochs, opened=epochs.map(float))

IDS = ["{chunk}", "${chunk_id}", "%{uuid_flush}"]
OTHERS = ["%{time_slice}", "%{hms_slice}", "%{file_extension}", "%{hex_random}", "%{hostname}", "${tag}", "${tag[0]}",
          "${tag[-2]}", "$UUID", "$TAG[1]", "{pod}", "{namespace}", "{node}", "%Y/%m/%d/", "%H", "%s", "%%", "/", "../",
          "-", "0", "a", "%{path}"]  # fmt: skip


def formats(*needed: str) -> st.SearchStrategy[str]:
    others = st.lists(st.sampled_from(OTHERS), max_size=5).map("".join)
    return st.tuples(others, st.sampled_from(needed), others).map("".join)


@given(formats(*IDS, "%{hex_random}"), chunks, chunks)
def test_two_chunks_never_have_the_same_key(text: str, one: ChunkFacts, other: ChunkFacts) -> None:
    assume(one.id != other.id)
    found = made(text, prefix="${tag[0]}/%j/", hex_length=16)
    assert not found.indexed
    assert found.render(one, None) != found.render(other, None)


@given(formats(*IDS), chunks, any_ids, any_ids)
def test_each_digit_of_the_id_tells_keys_apart(text: str, facts: ChunkFacts, one: str, other: str) -> None:
    assume(one != other)
    keys = {made(text).render(msgspec.structs.replace(facts, id=each), None) for each in (one, other)}
    assert len(keys) == 2


@given(formats(*IDS, "%{index}"), chunks, indices)
def test_every_key_is_one_that_s3_takes(text: str, facts: ChunkFacts, index: int) -> None:
    key = made(text, prefix="${tag}/").render(facts, index)
    assert 1 <= len(key.encode()) <= 1024
    assert not key.startswith("/")
    assert not {".", ".."} & set(key.split("/"))
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", key)


# The index

INDEX_FORMATS = ["%d", "%04d", "%x", "%08X", "%020d"]


@given(
    formats("%{index}", "$INDEX", "%{index}%{index}", "%{index}-$INDEX"),
    chunks,
    st.lists(indices, min_size=1, max_size=8),
    st.sampled_from(INDEX_FORMATS),
)
def test_the_greatest_index_is_found_again(text: str, facts: ChunkFacts, taken: list[int], index_format: str) -> None:
    found = made(text, index_format=index_format)
    assert found.greatest(facts, [found.render(facts, index) for index in taken]) == max(taken)


@given(formats("%{index}"), chunks, indices, st.sampled_from(INDEX_FORMATS))
def test_a_key_is_its_index_between_what_is_around_it(
    text: str, facts: ChunkFacts, index: int, index_format: str
) -> None:
    found = made(text, index_format=index_format)
    before, behind = found.around_index(facts)
    assert found.render(facts, index) == f"{before}{index_format % index}{behind}"


def test_keys_that_differ_in_nothing_but_the_index_have_the_same_around_it() -> None:
    found = made("%{path}%{time_slice}_%{index}.gz/%{index}", prefix="logs/")
    assert found.around_index(FACTS) == ("logs/202601310930_", ".gz/%{index}")
    twin = ChunkFacts(id="f" * 32, tag="other", slice=SLICE, opened=OPENED + 60)
    assert found.around_index(twin) == found.around_index(FACTS)
    later = msgspec.structs.replace(FACTS, slice=SLICE + 300)
    assert found.around_index(later) != found.around_index(FACTS)


@pytest.mark.parametrize(
    ("index_format", "keys", "greatest"),
    [
        ("%d", [], None),
        ("%d", ["logs/202601310930_0.gz", "logs/202601310930_10.gz", "logs/202601310930_9.gz"], 10),
        # Another's: of another slice or extension, without an index, written in another way.
        ("%d", ["logs/202601310935_7.gz", "logs/202601310930_7.txt", "logs/202601310930_7.gz.bak"], None),
        ("%d", ["logs/202601310930_.gz", "logs/202601310930_x.gz", "logs/202601310930_-1.gz"], None),
        ("%d", ["logs/202601310930_007.gz", "logs/202601310930_1_0.gz", "logs/202601310930_٣.gz"], None),
        ("%d", ["logs/202601310930_1/7.gz", "logs/202601310930_7.gz\n", "xlogs/202601310930_7.gz"], None),
        ("%03d", ["logs/202601310930_7.gz", "logs/202601310930_006.gz", "logs/202601310930_1000.gz"], 1000),
        ("%x", ["logs/202601310930_ff.gz", "logs/202601310930_FFF.gz"], 255),
        # A stranger's, which would leave no number for us.
        ("%d", ["logs/202601310930_4.gz", f"logs/202601310930_{10**18}.gz", f"logs/202601310930_{'9' * 900}.gz"], 4),
    ],
)  # fmt: skip
def test_only_keys_of_this_kind_count(index_format: str, keys: list[str], greatest: int | None) -> None:
    found = made("%{path}%{time_slice}_%{index}.gz", prefix="logs/", index_format=index_format)
    assert found.greatest(FACTS, keys) == greatest


def test_a_key_without_an_index_has_no_greatest_one() -> None:
    assert made("a{chunk}").greatest(FACTS, [f"a{ID}", f"a{ID}1"]) is None
