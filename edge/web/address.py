"""Where the page is served, and when that needs a token."""

import ipaddress
import re
import socket

# What stands in a URL as it is.
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,}")


def parse_address(text: str) -> tuple[str, int]:
    """Split `[HOST:]PORT`; the host is 127.0.0.1 unless given, an IPv6 one stands in brackets.

    Raises:
        ValueError: if it is none.
    """
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    good_host = "/" not in host and (bracketed or ":" not in host)
    if not good_host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(
            f"an address must be PORT, HOST:PORT or [IPV6]:PORT, such as 8765. Received: {text!r}."
        )
    return host or "127.0.0.1", int(port)


def check_token(host: str, token: str | None) -> None:
    """Refuse to let a whole network listen in.

    Args:
        host: what the server binds.
        token: the secret that visitors must know, if any.

    Raises:
        ValueError: if the host is not this machine alone and there is no token, or if the token
            is too short or would not stand in a URL.
    """
    advice = "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe())'"
    if token is None and not is_loopback(host):
        raise ValueError(f"Serving on {host} lets others listen in, so it needs a token. {advice}")
    if token is not None and not _TOKEN.fullmatch(token):
        raise ValueError(
            "a token must be at least 16 letters, digits or -._~. "
            f"Received: {len(token)} characters. {advice}"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it. Other names than localhost may mean anything."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        OSError: if the address cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        every_address = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, dualstack_ipv6=every_address)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"The page cannot be served on {host} port {port}: {reason}.") from error


def url(host: str, port: int) -> str:
    """What to open in a browser."""
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
