import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.ambassador.allowing import Allowed
from sidecars.core.errors import WrongSettings


@pytest.mark.parametrize(
    ("networks", "ip", "permitted"),
    [
        ((), "203.0.113.7", True),
        ((), None, True),
        (("10.0.0.0/8",), "10.255.1.2", True),
        (("10.0.0.0/8",), "11.0.0.0", False),
        (("10.0.0.0/8",), "::ffff:10.1.2.3", True),
        (("10.0.0.0/8",), "::a01:203", False),
        (("10.0.0.0/8",), None, True),
        (("192.0.2.1",), "192.0.2.1", True),
        (("192.0.2.1",), "192.0.2.2", False),
        (("0.0.0.0/0",), "203.0.113.7", True),
        (("0.0.0.0/0",), "2001:db8::1", False),
        (("::/0",), "203.0.113.7", False),
        (("2001:db8::/32", "192.0.2.0/24"), "2001:db8:ffff::1", True),
        (("2001:db8::/32", "192.0.2.0/24"), "192.0.2.200", True),
        (("2001:db8::/32", "192.0.2.0/24"), "2001:db9::1", False),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("10.0.0.0/8",), "not an address", False),
    ],
)
def test_who_may_connect(networks, ip, permitted) -> None:
    allowed = Allowed(networks)
    assert allowed.permits(ip) is permitted
    assert allowed.permits(ip) is permitted  # as it is remembered


@pytest.mark.parametrize(
    ("network", "advice"),
    [("10.0.0.1/8", "write 10.0.0.0/8"), ("10.0.0.0/33", "expected an address"), ("db.shop", "expected an address")],
)
def test_what_is_no_network_is_refused_with_advice(network, advice) -> None:
    with pytest.raises(WrongSettings, match=advice):
        Allowed([network])


@given(
    st.lists(st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), max_size=8, min_size=1),
    st.lists(st.ip_addresses(v=4), max_size=20),
)
def test_it_permits_what_the_networks_contain(drawn, addresses) -> None:
    networks = [ipaddress.ip_network(f"{address}/{length}", strict=False) for address, length in drawn]
    allowed = Allowed(map(str, networks))
    for address in [*addresses, *(network[0] for network in networks), *(network[-1] for network in networks)]:
        assert allowed.permits(str(address)) is any(address in network for network in networks)


def test_what_is_remembered_is_bounded() -> None:
    allowed = Allowed(["10.0.0.0/8"])
    for number in range(10_000):
        assert allowed.permits(str(ipaddress.ip_address(0x0A000000 + number)))
    assert len(allowed._known) <= 4096
