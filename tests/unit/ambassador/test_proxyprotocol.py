import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.proxyprotocol import MOST, Malformed, Parsed, build, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(command: int = 0x21, family: int = 0x11, body: bytes = bytes(12), size: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if size is None else size) + body


IPV4 = bytes([192, 0, 2, 1, 198, 51, 100, 1]) + struct.pack("!HH", 56324, 443)
IPV6 = ipaddress.ip_address("2001:db8::1").packed + ipaddress.ip_address("2001:db8::2").packed + b"\x00\x07\x00\x08"
UNIX = b"/run/a.sock".ljust(108, b"\0") + b"\0abstract".ljust(108, b"\0")
CLIENT, SERVER = ("192.0.2.1", 56324), ("198.51.100.1", 443)


@pytest.mark.parametrize(
    ("header", "source", "destination"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", CLIENT, SERVER),
        (b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", ("255.255.255.255", 65535), ("0.0.0.0", 0)),
        (b"PROXY TCP6 2001:DB8:0::1 ::ffff:1.2.3.4 7 8\r\n", ("2001:db8::1", 7), ("::ffff:1.2.3.4", 8)),
        (b"PROXY UNKNOWN\r\n", None, None),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff 65535 65535\r\n", None, None),
        (v2(body=IPV4), CLIENT, SERVER),
        (v2(body=IPV4 + b"\x03\x00\x04abcd" + b"\x04\x00\x01\x00"), CLIENT, SERVER),
        (v2(family=0x21, body=IPV6), ("2001:db8::1", 7), ("2001:db8::2", 8)),
        (v2(family=0x31, body=UNIX), "/run/a.sock", "\0abstract"),
        (v2(family=0x12, body=IPV4), None, None),  # datagrams
        (v2(family=0x00, body=b""), None, None),
        (v2(family=0x01, body=b"whatever"), None, None),
        (v2(command=0x20, body=IPV4), None, None),
        (v2(command=0x20, family=0, body=b""), None, None),
        (v2(body=IPV4 + bytes(MOST - 16 - 12)), CLIENT, SERVER),
    ],
)
def test_a_header_is_read_to_its_last_byte_whatever_follows_and_however_it_comes(header, source, destination) -> None:
    assert parse(header) == Parsed(source, destination, len(header))
    assert parse(header + b"GET / HTTP/1.1\r\n\r\nPROXY \0") == Parsed(source, destination, len(header))
    for length in [*range(min(len(header), 300)), len(header) - 1]:
        assert parse(header[:length]) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "no PROXY header"),
        (b"\x16\x03\x01\x02\x00\x01", "no PROXY header"),
        (b"PROXY\r\n", "no PROXY header"),
        (b"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "no PROXY header"),
        (b"\r\n\r\n\x00\r\nQUIS", "no PROXY header"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", "is not PROXY TCP4"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", "is not PROXY TCP4"),
        (b"PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n", "is not PROXY TCP4"),
        (b"PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n", "is not PROXY TCP4"),
        (b"PROXY \r\n", "is not PROXY TCP4"),
        (b"PROXY TCP4 ::1 1.1.1.1 1 1\r\n", "is no address"),
        (b"PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n", "is no address"),
        (b"PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n", "is no address"),
        (b"PROXY TCP4 1.1.1.1\0 1.1.1.1 1 1\r\n", "is no address"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.\xff 1 1\r\n", "is no address"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", "is no address"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n", "is no port"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n", "is no port"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 -1 1\r\n", "is no port"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1_0 1\r\n", "is no port"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 \xb2 1\r\n", "is no port"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1  1\r\n", "is no port"),
        (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "longer than 107"),
        (b"PROXY TCP4 " + b"1" * 200, "longer than 107"),
        (v2(command=0x11), "version and command"),
        (v2(command=0x22), "version and command"),
        (v2(family=0x41), "family and protocol"),
        (v2(family=0x13), "family and protocol"),
        (v2(body=bytes(11)), "too few"),
        (v2(family=0x21, body=bytes(35)), "too few"),
        (v2(family=0x31, body=bytes(215)), "too few"),
        (v2(body=b"", size=65535), "65551 bytes"),
    ],
)
def test_what_is_no_header_is_malformed_and_the_text_says_why(data, reason) -> None:
    with pytest.raises(Malformed, match=reason):
        parse(data)


def test_a_long_line_is_malformed_no_later_than_its_107th_byte() -> None:
    line = b"PROXY UNKNOWN " + b"x" * 200
    assert parse(line[:106]) is None
    with pytest.raises(Malformed):
        parse(line[:107])


ADDRESSES = {
    4: st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 65535)),
    6: st.tuples(st.ip_addresses(v=6).map(str), st.integers(0, 65535)),
}


@given(st.sampled_from(["v1", "v2"]), st.sampled_from([4, 6]).flatmap(lambda v: st.tuples(ADDRESSES[v], ADDRESSES[v])))
def test_what_is_built_is_read_as_the_same(version, pair) -> None:
    header = build(version, *pair)
    read = parse(header + b"rest")
    assert read and read.length == len(header)
    for said, meant in zip((read.source, read.destination), pair, strict=True):
        assert isinstance(said, tuple)
        one, other = (ipaddress.ip_address(each[0]) for each in (said, meant))
        same = getattr(one, "ipv4_mapped", None) or one, getattr(other, "ipv4_mapped", None) or other
        assert same[0] == same[1] and said[1] == meant[1]


@pytest.mark.parametrize(
    ("version", "source", "destination", "read"),
    [
        ("v1", None, SERVER, (None, None)),
        ("v2", None, SERVER, (None, None)),
        ("v1", "/run/a.sock", "/run/b.sock", (None, None)),
        ("v2", "/run/a.sock", "/run/b.sock", ("/run/a.sock", "/run/b.sock")),
        ("v2", "/run/a.sock", SERVER, ("/run/a.sock", "")),
        ("v1", CLIENT, None, (CLIENT, ("0.0.0.0", 0))),
        ("v2", CLIENT, "/run/b.sock", (CLIENT, ("0.0.0.0", 0))),
        ("v2", CLIENT, ("2001:db8::1", 5), (("::ffff:192.0.2.1", 56324), ("2001:db8::1", 5))),
        ("v1", ("::ffff:192.0.2.1", 5), SERVER, (("192.0.2.1", 5), SERVER)),
        ("v1", ("fe80::1%eth0", 5), ("fe80::2", 6), (("fe80::1", 5), ("fe80::2", 6))),
    ],
)
def test_a_client_that_cannot_be_named_is_said_to_be_unknown(version, source, destination, read) -> None:
    assert parse(build(version, source, destination))[:2] == read


def test_the_longest_line_has_104_bytes() -> None:
    # Section 2.1 allows 107 for addresses written in their longest form, which inet_ntop() does not.
    longest = ("1111:2222:3333:4444:5555:6666:7777:8888", 65535)
    header = build("v1", longest, longest)
    assert len(header) == 104
    assert parse(header) == Parsed(longest, longest, 104)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(lambda rest: b"PROXY " + rest),
        st.text("TCP46UNKOW 0123456789.:abcdef\r\n", max_size=120).map(lambda rest: b"PROXY TCP" + rest.encode()),
        st.binary(max_size=300).map(lambda rest: SIGNATURE + rest),
        st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 300), st.binary(max_size=300)).map(
            lambda drawn: v2(drawn[0], drawn[1], drawn[3], drawn[2])
        ),
    )
)
def test_hostile_bytes_are_a_header_or_malformed_and_never_wanted_without_end(data) -> None:
    try:
        read = parse(data)
    except Malformed as error:
        assert str(error)
        # More bytes do not make it well.
        with pytest.raises(Malformed):
            parse(data + b"\r\n")
    else:
        assert read is None or 15 <= read.length <= len(data)
        if read is None:
            assert parse_at_last(data + b"x" * MOST)


def parse_at_last(data: bytes) -> bool:
    try:
        return parse(data) is not None
    except Malformed:
        return True
