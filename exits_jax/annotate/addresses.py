"""Addresses: those of this machine alone, and how others are written."""

from ipaddress import IPv4Address, IPv6Address, ip_address

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # no other machine reaches these
EVERY = ("", "0.0.0.0", "::")  # to listen on all that there are


def parsed(address: str) -> IPv4Address | IPv6Address | None:
    """An address, of IPv4 also where it is written as one of IPv6; None: it is none."""
    try:
        found = ip_address(address)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def in_url(host: str) -> str:
    """A host as URLs and the header Host have it."""
    return f"[{host}]" if ":" in host else host


def reachable(host: str) -> str:
    """Where a program of this machine finds what listens on a host, as in a URL."""
    return in_url(LOOPBACK[0] if host in EVERY else host)
