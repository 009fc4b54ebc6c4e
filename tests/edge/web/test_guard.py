"""Access control of the web page, and limits on its clients."""

import asyncio
import contextlib
import importlib
import socket
import threading
import time
from contextlib import ExitStack, closing
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from edge import FrontEnd
from edge.health import Health
from edge.sources.base import Gap
from edge.web import WebSink
from edge.web.feed import MAX_CLIENTS
from tests.edge.visitor import Listener, ask

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from edge.web.connections import ConnectionLimits  # noqa: E402

CLASSIFIER = SimpleNamespace(labels=("rain",), front_end=FrontEnd(), hop_seconds=1.0)
TOKEN = "correct-horse-battery.staple"
PATHS = ("/", "/events", "/api/events", "/clips/a.wav", "/metrics")


def serve(**options):
    """A server on a free port, closed at the end of the context."""
    return closing(WebSink(CLASSIFIER, "m", Health(), port=0, **options))


@pytest.fixture(scope="module")
def web():
    """A server without a token, for this machine only."""
    with serve(names=["Pi.example"]) as sink:
        yield sink


@pytest.fixture(scope="module")
def locked():
    """A server with a token."""
    with serve(token=TOKEN) as sink:
        yield sink


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_only_reading_methods_are_allowed(web, method):
    answer = ask(web.port, "/", method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8765",
        "127.0.0.1:1",
        "[::1]:8765",
        "192.168.1.20:8765",
        "pi.example",
        "pi.example.",
        socket.gethostname(),
        f"{socket.gethostname()}.local:80",
    ],
)
def test_addresses_and_own_names_are_served(web, host):
    assert ask(web.port, "/", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example@localhost",
        "localhost:8765.evil.example",
        "localhost, evil.example",
        "[evil.example]",
        "",
    ],
)
def test_foreign_host_names_are_rejected(web, host):
    """DNS rebinding: a foreign name suddenly resolves to 127.0.0.1."""
    for path in (*PATHS, "/healthz", "/static/page.js"):
        answer = ask(web.port, path, host=host)
        assert answer.status in (400, 421)
        assert b"rain" not in answer.body


def test_other_sites_may_link_but_not_load(web):
    for site in ("cross-site", "same-site"):
        for mode in ("no-cors", "cors", "websocket"):
            for path in PATHS:
                headers = {"sec_fetch_site": site, "sec_fetch_mode": mode}
                assert ask(web.port, path, **headers).status == 403
        assert ask(web.port, "/", sec_fetch_site=site, sec_fetch_mode="navigate").status == 200
    assert ask(web.port, "/", sec_fetch_site="same-origin", sec_fetch_mode="cors").status == 200


def test_every_response_has_the_security_headers(web, locked):
    answers = [ask(web.port, path) for path in ("/", "/static/page.js", "/none", "/healthz")]
    answers += [ask(web.port, "/", "POST"), ask(web.port, "/", host="evil.example")]
    answers += [ask(locked.port, "/"), ask(locked.port, f"/?token={TOKEN}")]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Server" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong-wrong-wrong-wrong"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer \xe9\xff"},
        {"cookie": "semanticac=1"},
    ],
)
def test_requests_without_the_token_are_rejected(locked, path, headers):
    answer = ask(locked.port, path, **headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Set-Cookie" not in answer.headers
    assert b"rain" not in answer.body


def test_the_token_is_accepted_as_a_header(locked):
    for path in ("/", "/api/events", "/metrics"):
        assert ask(locked.port, path, authorization=f"Bearer {TOKEN}").status == 200
        assert ask(locked.port, path, authorization=f"bearer  {TOKEN}").status == 200
    with Listener(locked.port, authorization=f"Bearer {TOKEN}") as page:
        assert page.next("hello")["labels"] == ["rain"]


def test_the_token_in_the_address_becomes_a_cookie(locked):
    welcome = ask(locked.port, f"/?token={TOKEN}")
    assert welcome.status == 200
    assert b'http-equiv="refresh" content="0; url=./"' in welcome.body
    assert TOKEN.encode() not in welcome.body
    cookie, *attributes = welcome.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(attributes)
    assert cookie.startswith(f"semanticac_{locked.port}=")
    assert TOKEN not in cookie
    for path in ("/", "/api/events", "/metrics"):
        assert ask(locked.port, path, cookie=f"other=1; {cookie}").status == 200
        assert ask(locked.port, path, cookie=cookie[:-1]).status == 401
    with Listener(locked.port, cookie=cookie) as page:
        assert page.next("hello")["labels"] == ["rain"]
    with serve(token=TOKEN[::-1]) as other:
        renamed = cookie.replace(str(locked.port), str(other.port))
        assert ask(other.port, "/", cookie=renamed).status == 401


def test_the_token_in_a_url_is_accepted_only_for_the_page(locked):
    assert ask(locked.port, f"/api/events?token={TOKEN}").status == 401
    wrong = ask(locked.port, "/?token=wrong-wrong-wrong-wrong")
    assert wrong.status == 401
    assert b"Wrong token" in wrong.body
    assert b"Wrong token" not in ask(locked.port, "/").body


def test_health_and_static_files_need_no_token(locked):
    assert ask(locked.port, "/healthz").status == 503
    assert ask(locked.port, "/static/page.css").status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "pi.example"])
def test_a_network_needs_a_token(host):
    with pytest.raises(ValueError, match="lets others listen in, so it needs a token"):
        WebSink(CLASSIFIER, "m", Health(), host=host, port=0)


@pytest.mark.parametrize("token", ["", "short", "fifteen-letters", "with spaces in all of it"])
def test_weak_tokens_are_refused(token):
    with pytest.raises(ValueError, match=r"at least 16 letters, digits or -\._~"):
        WebSink(CLASSIFIER, "m", Health(), port=0, token=token)


def test_a_network_is_served_with_a_token():
    with serve(host="0.0.0.0", token=TOKEN) as sink:
        assert sink.url == f"http://{socket.gethostname()}:{sink.port}/"
        assert ask(sink.port, "/api/events").status == 401
        assert ask(sink.port, "/api/events", authorization=f"Bearer {TOKEN}").status == 200


def test_too_many_streams_are_rejected():
    with serve() as sink, ExitStack() as pages:
        for _ in range(MAX_CLIENTS):
            pages.enter_context(Listener(sink.port)).next("hello")
        full = ask(sink.port, "/events")
        assert (full.status, full.headers["Retry-After"]) == (503, "10")
        assert f"{MAX_CLIENTS} pages are already open" in full.body.decode()
        assert ask(sink.port, "/").status == 200
        pages.close()
        wait_until(lambda: sink._feed.clients == 0)
        with Listener(sink.port) as page:
            assert page.next("hello")["labels"] == ["rain"]


def test_a_client_that_stops_reading_is_cut_off_without_delaying_others(monkeypatch):
    limit(monkeypatch, stall_seconds=0.5)
    with serve() as sink, Listener(sink.port) as page, socket.socket() as idle:
        page.next("hello")
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        idle.connect(("127.0.0.1", sink.port))
        idle.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: sink._feed.clients == 2)
        count = 0
        deadline = time.monotonic() + 20
        while sink._feed.clients == 2:
            assert time.monotonic() < deadline
            sink.gap(Gap(float(count), "x" * 20_000))
            assert page.next("gap")["seconds"] == count
            count += 1
        wait_until(lambda: sink._server.connections == 1)
        sink.gap(Gap(-1.0, "still here"))
        assert page.next("gap")["reason"] == "still here"


def test_slow_clients_miss_spectrogram_rows_but_no_events():
    with serve() as sink, Listener(sink.port) as page:
        page.next("hello")
        second = np.zeros(32_000, np.float32)
        unblock = threading.Event()
        sink._feed._loop.call_soon_threadsafe(unblock.wait, 60)
        for number in range(100):
            sink.audio(second)
            sink.gap(Gap(float(number), "x"))
        unblock.set()
        gaps, frames = [], 0
        for name, values in page:
            frames += name == "frames"
            if name == "gap":
                gaps.append(values["seconds"])
            if len(gaps) == 100:
                break
        assert gaps == [float(number) for number in range(100)]
        assert 0 < frames < 50


@pytest.mark.parametrize("request_so_far", [b"", b"GET / HTTP/1.1\r\nHost: loc"])
def test_an_incomplete_request_is_cut_off(monkeypatch, request_so_far):
    limit(monkeypatch, request_seconds=0.5)
    with serve() as sink, socket.create_connection(("127.0.0.1", sink.port)) as slow:
        slow.settimeout(10)
        began = time.monotonic()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012
            slow.sendall(request_so_far)
            while True:  # Sending slowly does not extend the time.
                time.sleep(0.1)
                slow.sendall(request_so_far[:1])
                if not request_so_far and slow.recv(1) == b"":
                    raise ConnectionResetError
        assert 0.4 < time.monotonic() - began < 5


def test_streams_outlive_the_time_for_a_request(monkeypatch):
    limit(monkeypatch, request_seconds=0.2)
    monkeypatch.setattr("edge.web.app.HEALTH_SECONDS", 0.6)
    with serve() as sink, Listener(sink.port) as page:
        page.next("hello")
        page.next("health")
        assert sink._feed.clients == 1


def test_pipelined_requests_outlive_the_time_for_a_request(monkeypatch):
    """The timer of the first request must not end the second."""
    limit(monkeypatch, request_seconds=0.2)
    monkeypatch.setattr("edge.web.app.HEALTH_SECONDS", 0.6)
    with serve() as sink, socket.create_connection(("127.0.0.1", sink.port)) as client:
        client.settimeout(10)
        paths = ("/healthz", "/events")
        requests = [f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in paths]
        client.sendall("".join(requests).encode())
        wait_until(lambda: sink._feed.clients == 1)
        received = b""
        while b"event: health" not in received:
            received += (chunk := client.recv(65_536))
            assert chunk


def test_the_time_for_the_next_request_starts_after_a_response(monkeypatch):
    limit(monkeypatch, request_seconds=0.5)
    with serve() as sink, socket.create_connection(("127.0.0.1", sink.port)) as slow:
        slow.settimeout(10)
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT")
        assert slow.recv(100).startswith(b"HTTP/1.1 503")
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            while slow.recv(65_536):
                pass
        assert 0.3 < time.monotonic() - began < 4


def test_uvicorn_supports_the_limits():
    """If this fails, uvicorn renamed something: adapt `edge.web.connections`."""
    module = importlib.import_module("uvicorn.protocols.http.h11_impl")
    assert issubclass(module.H11Protocol, asyncio.Protocol)
    protocol_class = ConnectionLimits().protocol_class()
    config = uvicorn.Config(lambda *_: None, http=protocol_class, ws="none")
    config.load()
    assert config.http_protocol_class is protocol_class


def test_connections_are_bounded():
    with serve() as sink, ExitStack() as held:
        for _ in range(64):
            held.enter_context(socket.create_connection(("127.0.0.1", sink.port)))
        wait_until(lambda: sink._server.connections == 64)
        with pytest.raises(ConnectionError):
            ask(sink.port, "/healthz")
        held.close()
        wait_until(lambda: sink._server.connections == 0)
        assert ask(sink.port, "/healthz").status == 503


def limit(monkeypatch, **limits):
    """Replace limits of new servers."""
    monkeypatch.setattr("edge.web.server.ConnectionLimits", partial(ConnectionLimits, **limits))


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
