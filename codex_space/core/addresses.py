"""Find the address behind a host's name, and refuse one of this machine, its network or its provider.

Covered: every address the name has is looked at, and the caller connects to the one returned, so that the name cannot mean another
machine a moment later; IPv6 forms that carry an IPv4 address are refused whole. Not covered: a public server that passes
requests on to a private one.
"""

import ipaddress
import socket

from codex_space.core.errors import EvaluationError

_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.0.0.0/24", "168.63.129.16/32",  # metadata services of providers, outside what `is_global` knows
        "2001::/32", "2002::/16", "3fff::/20",  # with an IPv4 address inside; for books
    )
)  # fmt: skip
_GIVEN_OUT = ipaddress.ip_network("2000::/3")
"""All of IPv6 that the Internet uses; outside lie translated IPv4 addresses and networks of sites, old and new."""


def is_public(text: str) -> bool:
    """Say whether an IP address is one that anybody on the Internet can reach."""
    address = ipaddress.ip_address(text)
    inside = any(address in network for network in _NOT_PUBLIC if network.version == address.version)
    is_given_out = address.version == 4 or address in _GIVEN_OUT
    return address.is_global and is_given_out and not address.is_multicast and not inside


def find_public(host: str, port: int) -> str:
    """Return the IP address of a host.

    Raises:
        EvaluationError: There is no such host, or one of its addresses is not public.
    """
    try:
        found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise EvaluationError("there is no server of that name", where=host, cure="Check the address.") from None
    if not found or not all(map(is_public, found)):
        what = "this address is inside a private network, which this page may not reach into"
        raise EvaluationError(what, where=host, cure="On a Space, only servers with a public address are asked.")
    return found[0]
