"""A stream or file on the network, played by ffmpeg."""

import math
import re
import shutil
from collections.abc import Sequence

from edge.health import Health
from edge.sources.base import SourceError
from edge.sources.child import Child
from edge.sources.pcm import SampleFormat
from edge.sources.supervised import SupervisedSource

# What ffmpeg says at the levels it says it.
_DURATION = re.compile(r"\[info\]\s+Duration: (\d+):(\d\d):(\d\d\.\d+)")
_ERROR = re.compile(r"\[(?:error|fatal|panic)\] (.*)")
# Some lengths are guessed from the bit rate.
_NEARLY = 0.9
# ffmpeg takes 5 s to find out what some streams are.
_START_SECONDS = 20.0

# Up to the last "@": passwords are not always escaped.
_USER = re.compile(r"//\S*@")
_QUERY = re.compile(r"\?[^\s:]*")


class UrlSource(SupervisedSource):
    """Plays a URL with ffmpeg, for as long as it takes.

    What has a length, such as a file on a web server, ends there, and waits for a slow listener.
    What has none, such as a camera or a radio station, is live: it is connected to again whenever
    it ends, and drops its oldest sound where the listener falls behind.

    Only from one connection to the next is sound missing: within one, what comes late came late
    over the network, in bursts of seconds.

    Args:
        url: RTSP, HTTP, or whatever else ffmpeg opens. Neither password nor query gets into
            messages; other users of the machine can see both among ffmpeg's arguments.
        sample_rate_hz: rate of the chunks.
        health: where to say how the source is doing; gaps are the listener's to count.
        queue_seconds: sound that may wait for the listener.
        stall_seconds: the stream has failed when nothing comes for so long; some come in pieces
            of 10 s.
        retry_seconds: shortest and longest pause before another try.

    Raises:
        SourceError: if ffmpeg is not installed.
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
    ) -> None:
        ffmpeg = shutil.which("ffmpeg")
        if ffmpeg is None:
            raise SourceError("A URL needs ffmpeg; install it, as by: apt-get install ffmpeg.")
        self._ffmpeg = ffmpeg
        self._url = url
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
            # What ffmpeg took in to find out what it is comes in one burst.
            settle_seconds=0.5,
        )

    def _command(self) -> Sequence[str]:
        self._duration_seconds = None
        command = [self._ffmpeg, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]
        if self._url.lower().startswith("rtsp"):
            # By UDP, packets get lost and nothing says so.
            command += ["-rtsp_transport", "tcp"]
        command += ["-i", self._url, "-vn", "-sn", "-dn"]
        # To 16 bits ffmpeg averages channels; to floats it would add them up.
        return [*command, "-ac", "1", "-ar", str(self._rate_hz), "-f", "s16le", "pipe:1"]

    def _format(self, child: Child) -> tuple[int, int, SampleFormat]:
        return self._rate_hz, 1, "s16le"

    def _is_over(self, status: int, seconds: float) -> bool:
        whole = self._duration_seconds
        return status == 0 and whole is not None and seconds >= _NEARLY * whole

    @property
    def _waits_for_listener(self) -> bool:
        return self._duration_seconds is not None

    def _hear(self, words: str) -> None:
        if found := _DURATION.match(words):
            hours, minutes, seconds = map(float, found.groups())
            self._duration_seconds = 60 * (60 * hours + minutes) + seconds
        elif found := _ERROR.search(words):
            text = without_secrets(found[1].replace(self._url, self._name))
            super()._hear(text.removeprefix(f"{self._name}: "))


def without_secrets(text: str) -> str:
    """Take user, password and query out of the URLs in a text."""
    return _QUERY.sub("", _USER.sub("//", text))
