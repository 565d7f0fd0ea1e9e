"""Which addresses a Space may be made to ask."""

import pytest

from codex_space.core.addresses import find_public, is_public
from codex_space.core.errors import EvaluationError

INSIDE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "169.254.170.2",
    "192.0.0.192", "168.63.129.16", "100.100.100.200", "224.0.0.1", "255.255.255.255", "198.18.0.1",
    "::", "::1", "fe80::1", "fe80::1%lo", "fc00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:7f00:1::",
    "fec0::1", "::ffff:0:127.0.0.1", "5f00::1", "3fff::1",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_an_address_outside_is(address):
    assert is_public(address)
    assert find_public(address, 443) == address


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "::1", "0", "169.254.169.254"]
)
def test_however_it_is_written_it_is_refused(host):
    with pytest.raises(EvaluationError, match="private network"):
        find_public(host, 443)


@pytest.mark.parametrize("host", ["", "no such host", "x" * 300, "a..b", "\0"])
def test_what_is_no_host_is_one_sentence(host):
    with pytest.raises(EvaluationError) as raised:
        find_public(host, 443)
    assert "\n" not in str(raised.value)
