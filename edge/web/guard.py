"""Who may ask for what: stands in front of everything that is served."""

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
# A redirect would not do: after a link from another site, a browser holds a strict cookie back
# until a page of this one asks.
_WELCOME = """<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url=./">
<title>Welcome</title>
<a href="./">Go on</a>
"""
_REFUSED = b'<p role="alert">That is not the token.</p>'


class Guard:
    """Lets a request through to the application, or answers it.

    - Only GET and HEAD: nothing here can be changed.
    - The `Host` must be an address, this machine's name or one of `names`. A web page of a stranger
      can make its own name mean 127.0.0.1, but never its address.
    - Other sites may link here, but not load anything from here.
    - With a token: the right one as `Authorization: Bearer`, or a cookie, which the page gives
      once it was opened as `/?token=...`. `/healthz` and the page's own files need none.

    Args:
        app: what is served.
        names: further host names, such as a reverse proxy's.
        token: the secret, or None where everyone who can connect may look.
        cookie_name: differs between two listeners on one machine, as cookies know no ports.
    """

    def __init__(
        self, app: ASGIApp, names: Iterable[str], token: str | None, cookie_name: str
    ) -> None:
        self._app = app
        own = socket.gethostname().lower()
        self._names = {"localhost", own, f"{own}.local", *(name.lower() for name in names)}
        self._token = _digest(token) if token is not None else None
        # The cookie lies on disks and in backups; what it holds is of no use as a token.
        self._cookie = hashlib.sha256(f"cookie {token}".encode()).hexdigest()
        self._cookie_name = cookie_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
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
        """What keeps a request from the application, if anything does."""
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("Only GET and HEAD.\n", 405, {"Allow": "GET, HEAD"})
        if not self._is_ours(request.headers.get("host", "")):
            return PlainTextResponse(
                "This listener does not go by that name. Use its address, or allow the name "
                "where it is started.\n",
                421,
            )
        if _from_another_site(request):
            return PlainTextResponse("Other sites may only link here.\n", 403)
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
        given = request.query_params.get("token") if path == "/" else None
        if given is not None and hmac.compare_digest(_digest(given), expected):
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
            if given is not None:
                page = page.replace(b"<!-- notice -->", _REFUSED)
            return HTMLResponse(page, 401, challenge)
        return PlainTextResponse("A token is needed.\n", 401, challenge)


def _from_another_site(request: Request) -> bool:
    """Browsers say so where a connection is safe from tampering, as to localhost."""
    site = request.headers.get("sec-fetch-site", "none")
    mode = request.headers.get("sec-fetch-mode", "navigate")
    return site not in ("none", "same-origin") and mode != "navigate"


def _digest(secret: str) -> bytes:
    """Of one length for all, so that comparing tells nothing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
