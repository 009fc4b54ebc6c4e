"""Web application: the page, its event stream, clips, health and metrics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from edge.health import Health
from edge.web.event_stream import EventStream
from edge.web.feed import Feed, encode
from edge.web.files import find_clip, media_type, static
from edge.web.metrics import Metrics
from edge.web.page_state import PageState

HEALTH_SECONDS = 2.0


def create_app(
    page_state: PageState, feed: Feed, health: Health, clips_dir: Path | None
) -> Starlette:
    """Create the application, without `Guard`.

    Args:
        page_state: first message of each event stream.
        feed: later messages.
        health: shown on the page, and served as `/healthz` and `/metrics`.
        clips_dir: folder of the clips, if any.
    """
    metrics = Metrics(health, feed)

    async def page(request: Request) -> Response:
        return Response(static("page.html"), media_type="text/html")

    async def page_file(request: Request) -> Response:
        name = request.path_params["name"]
        try:
            return Response(static(name), media_type=media_type(name))
        except FileNotFoundError:
            return _not_found()

    async def events(request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        hello = page_state.hello() | {"health": health.to_json()}
        return EventStream(feed, encode("hello", hello))

    async def event_list(request: Request) -> Response:
        return JSONResponse({"events": page_state.events()})

    async def clip(request: Request) -> Response:
        path = find_clip(clips_dir, request.path_params["name"]) if clips_dir else None
        if path is None:
            return _not_found()
        try:
            return FileResponse(path, media_type="audio/wav", stat_result=path.stat())
        except FileNotFoundError:
            return _not_found()

    async def healthz(request: Request) -> Response:
        ready = health.ready
        values = {
            "ready": ready,
            "source_up": health.source_up,
            "muted": health.muted,
            "window_age_seconds": health.window_age_seconds(),
        }
        return JSONResponse(values, 200 if ready else 503)

    async def metrics_text(request: Request) -> Response:
        text, content_type = metrics.text(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": content_type})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        publisher = asyncio.create_task(_publish_health(feed, health))
        yield
        publisher.cancel()

    return Starlette(
        routes=[
            Route("/", page),
            Route("/static/{name}", page_file),
            Route("/events", events),
            Route("/api/events", event_list),
            Route("/clips/{name}", clip),
            Route("/healthz", healthz),
            Route("/metrics", metrics_text),
        ],
        lifespan=lifespan,
    )


async def _publish_health(feed: Feed, health: Health) -> None:
    while True:
        await asyncio.sleep(HEALTH_SECONDS)
        if feed.clients:
            feed.publish("health", health.to_json())


def _not_found() -> Response:
    return PlainTextResponse("Not found.\n", 404)
