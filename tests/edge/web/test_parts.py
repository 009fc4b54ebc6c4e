"""Parts of the web page that need no server."""

import socket

import numpy as np
import pytest

from edge import FrontEnd
from edge.web import parse_address
from edge.web.address import bind, is_loopback, url
from edge.web.feed import encode
from edge.web.spectrogram import Spectrogram


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8765", ("127.0.0.1", 8765)),
        (":0", ("127.0.0.1", 0)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:8765", ("::1", 8765)),
        ("[::]:1", ("::", 1)),
        ("pi.local:65535", ("pi.local", 65_535)),
    ],
)
def test_addresses_are_parsed(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "pi", "pi:", "::1:80", "65536", "-1", "http://pi:80", "1.5", "٣", "pi:80 "]
)
def test_invalid_addresses_are_refused(text):
    with pytest.raises(ValueError, match="an address must be PORT, HOST:PORT"):
        parse_address(text)


def test_only_this_machine_is_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "pi", "localhost.example")))


def test_an_unknown_host_is_one_clear_error():
    with pytest.raises(OSError, match=r"cannot be served on none\.invalid port 80: "):
        bind("none.invalid", 80)


def test_urls_have_a_host_that_browsers_can_open():
    assert url("127.0.0.1", 80) == "http://127.0.0.1:80/"
    assert url("::1", 80) == "http://[::1]:80/"
    assert url("0.0.0.0", 80) == url("::", 80) == f"http://{socket.gethostname()}:80/"


def test_an_encoded_message_has_two_lines_for_any_content():
    message = encode("event", {"label": "a\r\n\n b \u2028 \ud800 ♪"})
    assert message.endswith(b"\n\n")
    assert message.count(b"\n") == 3
    assert b"\r" not in message
    with pytest.raises(ValueError, match="JSON"):
        encode("window", {"score": float("nan")})


@pytest.mark.parametrize("front_end", [FrontEnd(), FrontEnd(num_mels=256, fmin_hz=200.0)])
def test_band_frequencies_match_tones(front_end):
    """The loudest band of a tone is centred near its frequency."""
    spectrogram = Spectrogram(front_end)
    assert (np.diff(spectrogram.bands_hz) >= 0).all()
    for hz in (440.0, 3000.0, 9000.0):
        spectrogram.reset()
        tone = np.sin(2 * np.pi * hz * np.arange(32_000) / 32_000).astype(np.float32)
        rows = np.frombuffer(spectrogram.push(tone), np.uint8).reshape(-1, front_end.num_mels)
        loudest_hz = spectrogram.bands_hz[rows[5].argmax()]
        assert loudest_hz == pytest.approx(hz, rel=0.12)


def test_a_click_stays_visible():
    spectrogram = Spectrogram(FrontEnd())
    sound = np.zeros(32_000, np.float32)
    sound[16_050] = 1.0
    rows = np.frombuffer(spectrogram.push(sound), np.uint8).reshape(-1, 64)
    # Full scale in one sample is 80 dB above the floor in the widest bands.
    assert rows.max(axis=1).argmax() in (12, 13)
    assert rows.max() > 100
    assert rows[:11].max() == 0
