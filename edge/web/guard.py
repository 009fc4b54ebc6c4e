"""Access control in front of the web application."""

import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.web.files import static

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; media-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_COOKIE_SECONDS = 365 * 24 * 3600
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::\d+)?")
# A redirect would fail: after a link from another site, a browser sends a strict cookie only with
# requests from a page of this site.
_WELCOME = """<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url=./">
<title>Welcome</title>
<link rel="icon" href="static/icon.svg" type="image/svg+xml">
<a href="./">Continue</a>
"""
_REFUSED = b'<p role="alert">Wrong token.</p>'


class Guard:
    """ASGI middleware that forwards allowed requests and rejects all others.

    - Only GET and HEAD are allowed: the application is read-only.
    - The `Host` must be an IP address, this machine's name or one of `names`. This prevents DNS
      rebinding, where a foreign host name resolves to 127.0.0.1.
    - Other sites may link here, but not load resources.
    - If there is a token, requests need it as `Authorization: Bearer` or as a cookie, which opening
      `/?token=...` sets. `/healthz` and static files need no token.

    Args:
        app: application to protect.
        names: additional host names, such as a reverse proxy's.
        token: secret, or None to allow everyone who can connect.
        cookie_name: must differ between listeners on one machine, because cookies ignore ports.
    """

    def __init__(
        self, app: ASGIApp, names: Iterable[str], token: str | None, cookie_name: str
    ) -> None:
        self._app = app
        own = socket.gethostname().lower()
        self._names = {"localhost", own, f"{own}.local", *(name.lower() for name in names)}
        self._token = _digest(token) if token is not None else None
        # Browsers store cookies on disk, so the cookie is a hash that cannot serve as a token.
        self._cookie = hashlib.sha256(f"cookie {token}".encode()).hexdigest()
        self._cookie_name = cookie_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self._answer(Request(scope)) or self._app
        await answer(scope, receive, send_with_headers)

    def _answer(self, request: Request) -> Response | None:
        """The response that rejects a request, or None to forward it."""
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("Only GET and HEAD.\n", 405, {"Allow": "GET, HEAD"})
        if not self._is_ours(request.headers.get("host", "")):
            return PlainTextResponse(
                "Unknown host name. Use the listener's IP address, or allow the name when you "
                "start it.\n",
                421,
            )
        if _from_another_site(request):
            return PlainTextResponse("Requests from other sites are not allowed.\n", 403)
        if self._token is None:
            return None
        return self._check_token(request, self._token)

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if not match:
            return False
        name = match[1].strip("[]").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.removesuffix(".") in self._names
        return True

    def _check_token(self, request: Request, expected: bytes) -> Response | None:
        path = request.scope["path"]
        if path == "/healthz" or path.startswith("/static/"):
            return None
        query_token = request.query_params.get("token") if path == "/" else None
        if query_token is not None and hmac.compare_digest(_digest(query_token), expected):
            response = HTMLResponse(_WELCOME)
            response.set_cookie(
                self._cookie_name,
                self._cookie,
                max_age=_COOKIE_SECONDS,
                httponly=True,
                samesite="strict",
            )
            return response
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(_digest(bearer.strip()), expected):
            return None
        cookie = request.cookies.get(self._cookie_name, "")
        if hmac.compare_digest(_digest(cookie), _digest(self._cookie)):
            return None
        challenge = {"WWW-Authenticate": "Bearer"}
        if path == "/":
            page = static("locked.html")
            if query_token is not None:
                page = page.replace(b"<!-- notice -->", _REFUSED)
            return HTMLResponse(page, 401, challenge)
        return PlainTextResponse("A token is required.\n", 401, challenge)


def _from_another_site(request: Request) -> bool:
    """Whether another site made the request; browsers report it over trusted connections."""
    site = request.headers.get("sec-fetch-site", "none")
    mode = request.headers.get("sec-fetch-mode", "navigate")
    return site not in ("none", "same-origin") and mode != "navigate"


def _digest(secret: str) -> bytes:
    """Hash of constant length, so that comparisons do not leak the length of the secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
