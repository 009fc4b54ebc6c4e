"""Addresses of the page, and the rule for when a token is required."""

import ipaddress
import re
import socket

# Characters that need no encoding in a URL.
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,}")


def parse_address(text: str) -> tuple[str, int]:
    """Split `[HOST:]PORT`. The default host is 127.0.0.1; IPv6 hosts are in brackets.

    Raises:
        ValueError: if `text` has another form.
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
    """Require a token if other machines can connect.

    Args:
        host: host the server binds to.
        token: secret that visitors must know, if any.

    Raises:
        ValueError: if other machines can connect and there is no token, or if the token is too
            short or has characters that a URL must encode.
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
    """Whether only this machine can connect; true for `localhost` and loopback addresses."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 picks a free port.

    Raises:
        OSError: if the address is unknown or in use.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        every_address = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, dualstack_ipv6=every_address)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"The page cannot be served on {host} port {port}: {reason}.") from error


def url(host: str, port: int) -> str:
    """URL to open in a browser."""
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
