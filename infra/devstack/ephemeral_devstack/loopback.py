"""Where the development stack may listen: on this machine and nowhere else."""

import ipaddress

from ephemeral.errors import AddressError


def parse_loopback(text: str) -> tuple[str, int]:
    """Parse HOST:PORT with an IPv4 loopback address; port 0 takes a free one.

    Raises:
        AddressError: not that form, or reachable from elsewhere.
    """
    host, _, port = text.rpartition(":")
    try:
        loopback, number = ipaddress.IPv4Address(host).is_loopback, int(port)
    except ValueError:
        raise AddressError(f"{text[:100]!r} is not HOST:PORT with an IPv4 address") from None
    if not loopback or not 0 <= number <= 65_535:
        raise AddressError(f"{text[:100]!r} is not on loopback: the development stack serves this machine only")
    return host, number
