"""A stream or file on the network, read with ffmpeg."""

import math
import re
import shutil
from collections.abc import Sequence

from edge.health import Health
from edge.sources.base import SourceError
from edge.sources.child import Child
from edge.sources.downmix import MIX, channel_number
from edge.sources.pcm import SampleFormat
from edge.sources.supervised import SupervisedSource

# ffmpeg's messages, with their log levels.
_DURATION = re.compile(r"\[info\]\s+Duration: (\d+):(\d\d):(\d\d\.\d+)")
_ERROR = re.compile(r"\[(?:error|fatal|panic)\] (.*)")
# Some durations are estimates from the bit rate.
_NEARLY = 0.9
# ffmpeg takes up to 5 s to detect the format of some streams.
_START_SECONDS = 20.0

# Up to the last "@": passwords are not always escaped.
_USER = re.compile(r"//\S*@")
_QUERY = re.compile(r"\?[^\s:]*")


class UrlSource(SupervisedSource):
    """Reads a URL with ffmpeg, and reconnects whenever a live stream breaks.

    A URL with a duration, such as a file on a web server, ends there and waits for a slow listener.
    A URL without one, such as a camera or a radio station, is live: it is reconnected whenever it
    ends, and its oldest sound is dropped when the listener falls behind.

    Sound is missing only between connections: within one, sound can be late by seconds, since
    networks deliver in bursts, but is never lost.

    Args:
        url: RTSP, HTTP, or any other URL that ffmpeg opens. Messages contain neither password nor
            query; other users of the machine can see both among ffmpeg's arguments.
        sample_rate_hz: rate of the chunks.
        health: receives the source's state; the listener counts the gaps.
        queue_seconds: sound that may wait for the listener.
        stall_seconds: time without samples after which the stream counts as failed; some streams
            arrive in segments of 10 s.
        retry_seconds: shortest and longest pause before another attempt.
        channel: `"mix"`, the mean of its channels; `"left"`, `"right"`, or a number from 1.

    Raises:
        SourceError: if ffmpeg is not installed.
        ValueError: if the channel is none of these.
    """

    def __init__(
        self,
        url: str,
        sample_rate_hz: int,
        health: Health | None = None,
        *,
        queue_seconds: float = 10.0,
        stall_seconds: float = 20.0,
        retry_seconds: tuple[float, float] = (1.0, 30.0),
        channel: str = MIX,
    ) -> None:
        ffmpeg = shutil.which("ffmpeg")
        if ffmpeg is None:
            raise SourceError("A URL needs ffmpeg; install it, as by: apt-get install ffmpeg.")
        self._ffmpeg = ffmpeg
        self._url = url
        self._channel = channel_number(channel)
        self._duration_seconds: float | None = None
        super().__init__(
            without_secrets(url),
            sample_rate_hz,
            health,
            queue_seconds=queue_seconds,
            start_seconds=_START_SECONDS,
            stall_seconds=stall_seconds,
            retry_seconds=retry_seconds,
            tolerance_seconds=math.inf,
            # The data that ffmpeg read to detect the format arrives in one burst.
            settle_seconds=0.5,
        )

    def _command(self) -> Sequence[str]:
        self._duration_seconds = None
        command = [self._ffmpeg, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]
        if self._url.lower().startswith("rtsp"):
            # With UDP, packets are lost silently.
            command += ["-rtsp_transport", "tcp"]
        command += ["-i", self._url, "-vn", "-sn", "-dn"]
        if self._channel is None:
            # For 16-bit output, ffmpeg averages the channels; for floats it would sum them.
            command += ["-ac", "1"]
        else:
            command += ["-af", f"pan=mono|c0=c{self._channel - 1}"]
        return [*command, "-ar", str(self._rate_hz), "-f", "s16le", "pipe:1"]

    def _format(self, child: Child) -> tuple[int, int, SampleFormat]:
        return self._rate_hz, 1, "s16le"

    def _has_ended(self, status: int, seconds: float) -> bool:
        duration = self._duration_seconds
        return status == 0 and duration is not None and seconds >= _NEARLY * duration

    @property
    def _waits_for_listener(self) -> bool:
        return self._duration_seconds is not None

    def _on_message(self, message: str) -> None:
        if found := _DURATION.match(message):
            hours, minutes, seconds = map(float, found.groups())
            self._duration_seconds = 60 * (60 * hours + minutes) + seconds
        elif found := _ERROR.search(message):
            text = without_secrets(found[1].replace(self._url, self._name))
            super()._on_message(text.removeprefix(f"{self._name}: "))


def without_secrets(text: str) -> str:
    """Remove user, password and query from the URLs in a text."""
    return _QUERY.sub("", _USER.sub("//", text))
