"""The page in a real browser."""

import contextlib
import http.server
import itertools
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from edge import FrontEnd
from edge.events.event import Event
from edge.health import Health
from edge.inference.streaming import Classification
from edge.sources.base import Gap
from edge.web import WebSink
from tests.edge import chromium

pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

EVIL = '<img src=x onerror="document.title=1"><b>Glocke</b> & ♪ \u202eabc'
LABELS = ("rain", "dog", "siren", "wind", "engine", EVIL)
CLASSIFIER = SimpleNamespace(labels=LABELS, front_end=FrontEnd(window_seconds=2.0), hop_seconds=0.5)
STATUS = "document.getElementById('status')?.dataset.state === '{}'"
TOKEN = "correct-horse-battery.staple"
# Minimum contrast of text in WCAG 2.1 AA.
MIN_CONTRAST = 4.5


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests."""
    chromium.require()
    with chromium.Chromium() as browser:
        yield browser


@pytest.fixture
def health():
    """Health of a working listener."""
    health = Health(0.5)
    health.set_source(True, "USB microphone, 48 kHz")
    return health


@pytest.fixture
def web(health, tmp_path, monkeypatch):
    """A server with one clip that sends health often."""
    monkeypatch.setattr("edge.web.app.HEALTH_SECONDS", 0.3)
    soundfile.write(tmp_path / "1 ♪.wav", np.zeros(64_000, np.float32), 32_000)
    with contextlib.closing(serve(health, clips_dir=tmp_path)) as sink:
        yield sink


@pytest.fixture
def page(browser, web):
    """The connected page; asserts afterwards that the browser reported no errors."""
    page = browser.open(web.url)
    page.wait_for(STATUS.format("live"))
    yield page
    assert page.complaints == []
    page.close()


def serve(health, port=0, **options):
    return WebSink(CLASSIFIER, "bells.tflite", health, port=port, **options)


def event(identifier, label, **fields):
    start = time.time() - 3
    return replace(Event(identifier, label, 1.0, None, 0.91, 0.8, -20.4, start), **fields)


def ended(event, seconds=2.5, **fields):
    end = {"end_seconds": event.start_seconds + seconds, "ended_at": event.started_at + seconds}
    return replace(event, **(end | {"end_reason": "quiet"} | fields))


def window(scores, gated=False):
    zeros = np.zeros(len(LABELS), np.float32)
    scores = np.array(scores, np.float32)
    return Classification(0.0, 2.0, scores, zeros, LABELS, zeros, -20.0, gated)


def hurry(page, web):
    """Load the page again, with all its timeouts at an eighth."""
    source = (
        "const wait = setTimeout; window.setTimeout = (callback, ms) => wait(callback, ms / 8);"
    )
    page.call("Page.addScriptToEvaluateOnNewDocument", source=source)
    page.go(web.url)
    page.wait_for(STATUS.format("live"))


def text(page, selector):
    return page.evaluate(f"document.querySelector({selector!r}).innerText")


def rows(page):
    return page.evaluate("[...document.querySelectorAll('#events li')].map(li => li.innerText)")


def test_events_appear_and_end(page, web):
    assert page.evaluate("document.getElementById('no-events').checkVisibility()")
    siren = event("1", "siren")
    web.event(siren)
    page.wait_for("document.querySelector('#events li.running')")
    assert not page.evaluate("document.getElementById('no-events').checkVisibility()")
    assert text(page, "#heard") == "siren"
    assert page.evaluate("document.title") == "siren · semanticac-edge"
    assert text(page, "#announcements") == "siren started"
    assert page.evaluate("document.getElementById('announcements').ariaLive") == "polite"
    (row,) = rows(page)
    assert "91 %" in row
    assert "\N{MINUS SIGN}20 dB" in row
    page.wait_for("/for [34]/.test(document.querySelector('#events .length').innerText)")
    page.wait_for("/for [5-9]/.test(document.querySelector('#events .length').innerText)")
    web.event(event("2", "dog"))
    page.wait_for("document.querySelectorAll('#events li.running').length === 2")
    assert text(page, "#heard") == "siren · dog"
    assert [row.split("\n")[0] for row in rows(page)] == ["dog", "siren"]
    web.event(ended(siren, end_reason="gap"))
    page.wait_for("document.querySelectorAll('#events li.running').length === 1")
    assert "2.5 s" in rows(page)[1]
    assert "cut off by a gap" in rows(page)[1]
    assert text(page, "#heard") == "dog"


def test_times_are_local(page, web):
    page.call("Emulation.setTimezoneOverride", timezoneId="Asia/Kathmandu")
    page.go(web.url)
    page.wait_for(STATUS.format("live"))
    web.event(replace(event("1", "rain"), started_at=1_700_000_000.0))
    moment = page.wait_for("document.querySelector('#events time')?.innerText")
    assert "15" in moment
    assert "3:58:20" in moment
    assert "Nov" in moment
    assert page.evaluate("document.querySelector('#events time').dateTime").startswith("2023-11-14")


def test_events_of_recordings_show_positions_instead_of_times(page, web):
    web.event(
        ended(
            event("1", "rain"),
            ended_at=None,
            started_at=None,
            start_seconds=3723.4,
            end_seconds=3725.0,
        )
    )
    page.wait_for("document.querySelector('#events li')")
    assert "at 1:02:03.4 · 1.6 s" in rows(page)[0]


def test_labels_with_markup_are_shown_as_text(page, web):
    web.event(event("1", EVIL))
    web.window(window([0, 0, 0, 0, 0.1, 0.9]))
    page.wait_for("document.querySelector('#events li')")
    page.wait_for("document.querySelector('#top .score').textContent !== ''")
    for selector in ("#events .name", "#top .name", "#heard"):
        assert page.evaluate(f"document.querySelector({selector!r}).textContent") == EVIL
    assert page.evaluate("document.querySelectorAll('main img, main b').length") == 0
    assert page.evaluate("document.title") == f"{EVIL} · semanticac-edge"


def test_the_best_labels_have_bars(page, web):
    web.window(window([0.1, 0.6, 0.02, 0.2, 0.05, 0.03]))
    page.wait_for("document.querySelector('#top .name').innerText === 'dog'")
    assert text(page, "#top").split("\n") == [
        "dog", "60 %", "wind", "20 %", "rain", "10 %", "engine", "5 %",
        EVIL, "3 %",
    ]  # fmt: skip
    page.wait_for(
        "Math.abs(document.querySelector('#top i').getBoundingClientRect().width"
        " / document.querySelector('#top .bar').clientWidth - 0.6) < 0.01"
    )
    web.window(window([0] * 6, gated=True))
    page.wait_for("document.getElementById('quiet').checkVisibility()")
    assert text(page, "#heard") == "Quiet"


@pytest.mark.slow
def test_sound_moves_spectrogram_and_level(page, web, make_sound):
    colours = f"new Set(new Uint32Array({PIXELS}.buffer)).size"
    assert page.evaluate(colours) < 40
    with playing(web, make_sound(320_000)):
        page.wait_for(f"{colours} > 200")
        level = page.wait_for(
            "Number(document.getElementById('level').ariaValueNow) > -80 &&"
            "document.getElementById('level-text').innerText"
        )
        assert -30 < int(level.split()[0].replace("\N{MINUS SIGN}", "-")) < 0
        page.evaluate("document.getElementById('pause').click()")
        assert page.evaluate("document.getElementById('pause').ariaPressed") == "true"
        still = "document.getElementById('spectrogram').toDataURL()"
        page.evaluate(FRAMES)
        paused = page.evaluate(still)
        page.evaluate(FRAMES)
        assert page.evaluate(still) == paused
        page.evaluate("document.getElementById('pause').click()")
        page.wait_for(f"{still} !== {paused!r}")
    web.gap(Gap(3.0, "stalled"))


@pytest.mark.slow
def test_reduced_motion_updates_once_a_second(page, web, make_sound):
    page.prefer(prefers_reduced_motion="reduce")
    with playing(web, make_sound(320_000)):
        changes = page.evaluate(
            """(async () => {
            const seen = new Set();
            const end = performance.now() + 2500;
            while (performance.now() < end) {
                await new Promise(requestAnimationFrame);
                seen.add(PIXELS.join());
            }
            return seen.size;
        })()""".replace("PIXELS", PIXELS)
        )
    assert 1 <= changes <= 4


def test_health_shows_failures(page, web, health):
    assert text(page, "#status") == "Listening"
    health.set_source(False, "the device is gone")
    health.count_gap(2.5)
    broker = health.output("mqtt")
    broker.ok, broker.error, broker.queued = False, "connection refused", 12
    page.wait_for(STATUS.format("silent"))
    assert text(page, "#status") == "No sound: the device is gone"
    panel = text(page, "#health")
    assert "1, 2.5 s in total" in panel
    assert "connection refused, 12 queued" in panel
    health.set_source(True, "USB microphone")
    page.wait_for(STATUS.format("live"))


def test_a_clip_plays_and_seeks(page, web):
    web.event(ended(event("1", "dog"), clip="1 ♪.wav"))
    page.wait_for("document.querySelector('#events button')")
    page.evaluate("document.querySelector('#events button').click()")
    page.wait_for("document.querySelector('audio')?.currentTime > 0.1")
    assert page.evaluate("document.querySelector('audio').duration") == pytest.approx(2.0)
    page.evaluate("document.querySelector('audio').currentTime = 1.5")
    page.wait_for("document.querySelector('audio').ended")
    page.evaluate("document.querySelector('#events button').click()")
    assert page.evaluate("document.querySelector('audio')") is None


def test_a_missing_clip_is_reported(page, web):
    hurry(page, web)
    web.event(ended(event("1", "dog"), clip="gone.wav"))
    page.wait_for("document.querySelector('#events button')")
    page.evaluate("document.querySelector('#events button').click()")
    page.wait_for("document.querySelector('#events .failure')")
    assert "may have been deleted to make room for newer ones" in rows(page)[0]
    assert all("404" in complaint for complaint in page.complaints)
    page.complaints.clear()


def test_many_events_are_folded(page, web):
    for number in range(20):
        web.event(ended(event(str(number), "rain")))
    page.wait_for("document.querySelectorAll('#events li').length === 20")
    visible = (
        "[...document.querySelectorAll('#events li')].filter(li => li.checkVisibility()).length"
    )
    assert page.evaluate(visible) == 12
    page.evaluate("document.getElementById('more-events').click()")
    assert page.evaluate(visible) == 20


@pytest.mark.slow
def test_the_page_reconnects_after_a_restart(browser, health, monkeypatch):
    monkeypatch.setattr("edge.web.app.HEALTH_SECONDS", 0.3)
    web = serve(health)
    page = browser.open(web.url)
    hurry(page, web)
    web.event(event("before", "rain"))
    page.wait_for("document.querySelector('#events li')")
    assert page.complaints == []
    web.close()
    page.wait_for(STATUS.format("lost"))
    page.wait_for("document.getElementById('status').innerText.startsWith('Connection lost.')")
    assert text(page, "#status") == "Connection lost. Reconnecting …"
    assert page.evaluate("document.getElementById('status').role") == "status"
    again = serve(health, port=web.port)
    with contextlib.closing(again):
        again.event(event("after", "dog"))
        page.wait_for(STATUS.format("live"))
        page.wait_for("document.querySelector('#events .name').innerText === 'dog'")
        assert len(rows(page)) == 1
        assert text(page, "#heard") == "dog"
        assert not page.evaluate("document.body.classList.contains('stale')")
    # The browser itself reports only the failed connections.
    assert all("Failed to load resource" in complaint for complaint in page.complaints)
    page.close()


def test_a_dead_connection_is_detected(page, web):
    """As on a phone after sleep: the connection is silent, but never closed."""
    hurry(page, web)
    loop = web._feed._loop
    woken = threading.Event()
    loop.call_soon_threadsafe(woken.wait, 30)
    page.wait_for(STATUS.format("lost"), seconds=20)
    woken.set()
    page.wait_for(STATUS.format("live"))


@pytest.mark.slow
def test_a_link_with_the_token_opens_the_page_from_another_site(browser, health, tmp_path):
    """Browsers do not send the strict cookie with the first request after such a link."""
    with contextlib.closing(serve(health, token=TOKEN)) as web:
        locked = browser.open(web.url)
        assert locked.evaluate("document.querySelector('form') !== null")
        assert locked.evaluate("location.href") == web.url
        target = f"{web.url}?token={TOKEN}"
        (tmp_path / "index.html").write_text(
            f'<link rel="icon" href="data:,"><a href="{target}">Listen</a>'
        )
        with serving(tmp_path) as other:
            locked.go(f"http://localhost:{other}/")
            locked.wait_for("document.querySelector('a')")
            locked.complaints.clear()
            locked.evaluate("document.querySelector('a').click()")
            locked.wait_for(STATUS.format("live"))
        assert locked.evaluate("location.href") == web.url
        # Chromium also warns about cookies of other ports and about the history.
        assert not [c for c in locked.complaints if "Failed to load" in c or "Policy" in c]
        locked.close()


def test_the_form_accepts_the_token(browser, health):
    with contextlib.closing(serve(health, token=TOKEN)) as web:
        page = browser.open(web.url)
        for token, state in (
            ("wrong", "document.querySelector('[role=alert]')"),
            (TOKEN, STATUS.format("live")),
        ):
            page.evaluate(f"document.querySelector('input').value = '{token}'")
            page.evaluate("document.querySelector('button').click()")
            page.wait_for(state)
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_both_schemes(page, web, health, scheme):
    health.output("mqtt").ok = False
    health.count_gap(1.0)
    page.prefer(prefers_color_scheme=scheme)
    web.event(event("1", "rain"))
    web.window(window([0.1, 0.6, 0.02, 0.2, 0.05, 0.03]))
    page.wait_for("document.querySelector('#health .bad')")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 30
    assert {text: ratio for text, ratio in contrasts if ratio < MIN_CONTRAST} == {}


def test_nothing_overflows_at_any_width(page, web, health):
    health.set_source(True, "a-device-name-without-any-space-" * 4)
    web.event(event("1", "W" * 200))
    web.window(window([0.1, 0.6, 0.02, 0.2, 0.05, 0.03]))
    page.wait_for("document.querySelector('#events li')")
    page.wait_for("document.getElementById('health').innerText.includes('without')")
    for width in (320, 390, 720, 800, 1088, 1280):
        page.resize(width, 800, mobile=width < 500)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("""[...document.querySelectorAll('section')].every(
            (section) => section.scrollWidth <= section.clientWidth)""")


def test_it_is_accessible_by_keyboard_and_screen_reader(page, web):
    web.event(ended(event("1", "dog"), clip="1 ♪.wav"))
    page.wait_for("document.querySelector('#events button')")
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree]
    assert {"banner", "main", "contentinfo"} <= {role for role, _ in roles}
    for name in ("What it hears", "Events", "Health"):
        assert ("region", name) in roles
        assert ("heading", name) in roles
    assert ("button", "Play the recording of dog") in roles
    assert ("meter", "Level") in roles
    assert all(name for role, name in roles if role in ("button", "link", "image", "meter"))
    stops = []
    for _ in range(4):
        page.call(
            "Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9
        )
        stops.append(page.evaluate("document.activeElement.textContent"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert stops[:3] == ["Skip to the events", "Pause", "Play"]


@pytest.mark.parametrize("width", [390, 1280])
def test_chips_hold_their_labels(page, width):
    """A short event's chip is as wide as its label, at both edges of the picture."""
    page.resize(width, 800)
    chips = page.evaluate(CHIPS.replace("WIDTH", str(width - 34)))
    by_lane = [[chip for chip in chips if chip["lane"] == lane] for lane in (0, 1)]
    assert {chip["event"]["label"] for chip in chips} == {"clock tick", "crying baby", "W" * 200}
    for chip in chips:
        assert chip["textLeft"] >= chip["left"] + 10
        assert chip["textLeft"] + chip["textWidth"] <= chip["right"] - 10 + 1e-6
        assert chip["textLeft"] >= 0
        assert chip["right"] <= width - 34
        whole = chip["text"] == chip["event"]["label"]
        assert whole or (chip["text"].endswith("…") and len(chip["event"]["label"]) == 200)
    for lane in by_lane:
        for before, after in itertools.pairwise(lane):
            assert before["right"] <= after["left"]


@contextlib.contextmanager
def playing(web, sound):
    """Push the sound in real time."""
    stop = threading.Event()

    def play():
        for start in range(0, len(sound), 1600):
            web.audio(sound[start : start + 1600])
            if stop.wait(0.05):
                return

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def serving(directory):
    """Serve a folder as another web site; yields the port."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=directory)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


# Pixels of the newest columns of the spectrogram, read from a copy.
PIXELS = """(() => {
    const canvas = document.getElementById('spectrogram');
    const copy = new OffscreenCanvas(100, canvas.height - 60);
    const context = copy.getContext('2d', {willReadFrequently: true});
    context.drawImage(canvas, 110 - canvas.width, 0);
    return context.getImageData(0, 0, copy.width, copy.height).data;
})()"""

# The chips of short events: one at the left edge, two in the middle, and one that starts.
CHIPS = """(async () => {
    const { Spectrogram } = await import('/static/spectrogram.js');
    const canvas = document.createElement('canvas');
    const picture = new Spectrogram(canvas);
    picture.paused = true;
    picture.filled = 1;
    picture.newest = 100;
    const event = (id, label, start, length) => picture.event(
        {id, label, start_seconds: start, end_seconds: length && start + length});
    event('1', 'crying baby', 92.05, 0.5);
    event('2', 'W'.repeat(200), 92.5, 0.5);
    event('3', 'clock tick', 95.0, 0.5);
    event('4', 'crying baby', 99.9, null);
    return picture.layOutChips(WIDTH, 8 * picture.rate);
})()"""

# Waits for 24 frames, about 0.4 s.
FRAMES = """new Promise((resolve) => {
    let left = 24;
    const frame = () => --left ? requestAnimationFrame(frame) : resolve(true);
    frame();
})"""

# Contrast of each text with its background, by WCAG's formula.
CONTRASTS = """(() => {
    const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = (colour) => {
        const [red, green, blue] = colour.slice(0, 3).map((value) => {
            const share = value / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const colour = parse(getComputedStyle(node).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
        }
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
        const pair = [parse(getComputedStyle(node).color), behind(node)].map(luminance);
        const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        found.push([walker.currentNode.data.trim(), ratio]);
    }
    return found;
})()"""
