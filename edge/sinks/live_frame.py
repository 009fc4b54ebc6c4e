"""One frame of the live view, fitted to the size of the terminal."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.events.event import Event
from edge.health import Health
from edge.inference.streaming import Classification

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

_LOWEST_DBFS = -80.0
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """A rich renderable: source, level, labels, events, and below them messages and rates.

    Args:
        title: first line.
        health: source, gaps and outputs.
        level_dbfs: displayed level.
        peak_dbfs: displayed peak level.
        window: latest window, if any.
        top: number of best labels to show.
        windows_per_second: recent rate.
        open: open events.
        ended: ended events, newest first.
        notes: messages, oldest first.
    """

    title: str
    health: Health
    level_dbfs: float
    peak_dbfs: float
    window: Classification | None
    top: int
    windows_per_second: float
    open: Sequence[Event]
    ended: Sequence[Event]
    notes: Sequence[str]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        width, height = options.max_width, options.height or console.size.height
        bars = _Bars(width, options.ascii_only)
        upper = [*self._head(width), Text(), self._level(bars), Text(), *self._heard(bars)]
        notes = [Text(note, "yellow") for note in self.notes]
        lower = [Text(), *notes, *self._failures(), self._rates()]
        room = height - len(upper) - len(lower)
        middle = [Text(), *self._events()][: max(0, room)]
        middle += [Text()] * (room - len(middle))
        lines = (upper + middle + lower) if room >= 0 else [line for line in upper if line]
        encoding = console.encoding
        for line in lines[:height]:
            # A label must not send control sequences to the terminal.
            plain = "".join(char if char.isprintable() else " " for char in line.plain)
            line.plain = plain.encode(encoding, "replace").decode(encoding)
            line.truncate(width, overflow="ellipsis")
            yield line

    def _head(self, width: int) -> Iterator["Text"]:
        from rich.text import Text

        up = time.strftime("up %H:%M:%S", time.gmtime(self.health.uptime_seconds() % 86_400))
        days = int(self.health.uptime_seconds() // 86_400)
        up = up.replace("up", f"up {days} d") if days else up
        title = Text(self.title, "bold")
        title.truncate(max(0, width - len(up) - 2), overflow="ellipsis")
        title.pad_right(max(0, width - title.cell_len - len(up)))
        yield title.append(up, "dim")
        if self.health.source_up and self.health.muted:
            yield Text.assemble(("only digital silence", "bold yellow"), "; is the input muted?")
        elif self.health.source_up:
            yield Text.assemble(("listening", "green"), f" to {self.health.source}")
        else:
            yield Text.assemble(("no sound", "bold red"), f": {self.health.source}")

    def _level(self, bars: "_Bars") -> "Text":
        from rich.text import Text

        text = Text.assemble(f"{'level':<{bars.label_width}} ")
        text.append_text(bars.level(self.level_dbfs, self.peak_dbfs))
        return text.append(f" {self.level_dbfs:6.1f} dBFS", "bold").append(
            f"  peak {self.peak_dbfs:.1f}", "dim"
        )

    def _heard(self, bars: "_Bars") -> Iterator["Text"]:
        from rich.text import Text

        window = self.window
        if window is None:
            yield Text("the first window is not full yet", "dim")
        elif window.gated:
            yield Text("too quiet to be classified", "dim")
        else:
            for label, score in window.top(self.top):
                sounding = any(event.label == label for event in self.open)
                text = Text(label, "bold green" if sounding else "")
                text.truncate(bars.label_width, overflow="ellipsis", pad=True)
                style = "green" if sounding else "cyan"
                yield Text.assemble(text, " ", (bars.bar(score), style), f" {score:6.2f}")

    def _events(self) -> Iterator["Text"]:
        from rich.text import Text

        now = self.window.end_seconds if self.window else 0.0
        for event in self.open:
            seconds = max(0.0, now - event.start_seconds)
            yield Text.assemble(
                (f"{_time_of(event)}  {event.label}", "bold green"),
                f"  for {seconds:.0f} s, score {event.peak_score:.2f}",
            )
        for event in self.ended:
            yield Text.assemble(
                f"{_time_of(event)}  {event.label}",
                (
                    f"  {event.duration_seconds or 0:.1f} s, score {event.peak_score:.2f}, "
                    f"{event.level_dbfs:.1f} dBFS",
                    "dim",
                ),
            )

    def _rates(self) -> "Text":
        from rich.text import Text

        health = self.health
        text = Text(style="dim")
        text.append(f"{self.windows_per_second:.1f} windows/s")
        text.append(f"  {1000 * health.last_inference_seconds:.0f} ms inference")
        text.append(f"  {health.gaps} gaps, {health.gap_seconds:.1f} s")
        for name, output in list(health.outputs.items()):
            waiting = f", {output.queued} wait" if output.queued else ""
            if output.ok:
                text.append(f"  {name} ok{waiting}")
        return text

    def _failures(self) -> Iterator["Text"]:
        from rich.text import Text

        for name, output in list(self.health.outputs.items()):
            if not output.ok:
                yield Text(f"{name}: {output.error}", "red")


class _Bars:
    """Bars with room for a label on the left and numbers on the right."""

    def __init__(self, width: int, ascii_only: bool) -> None:
        self.label_width = max(5, min(24, width // 4))
        self._width = max(4, min(60, width - self.label_width - 25))
        self._ascii = ascii_only

    def bar(self, fraction: float) -> str:
        """A bar of that fraction of the width, padded."""
        eighths = round(8 * self._width * min(1.0, max(0.0, fraction)))
        if self._ascii:
            return ("#" * (eighths // 8)).ljust(self._width)
        return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).ljust(self._width)

    def level(self, dbfs: float, peak_dbfs: float) -> "Text":
        """Level bar: green, yellow from -18 dBFS, red from -6 dBFS, with a mark at the peak."""
        from rich.text import Text

        text = Text(self.bar(1 - dbfs / _LOWEST_DBFS))
        peak = int(self._width * min(1.0, max(0.0, 1 - peak_dbfs / _LOWEST_DBFS)))
        if 0 < peak <= self._width:
            marked = text.plain[: peak - 1] + ("|" if self._ascii else "│") + text.plain[peak:]
            text = Text(marked)
        yellow, red = (int(self._width * (1 - at / _LOWEST_DBFS)) for at in (-18, -6))
        for style, start, end in [
            ("green", 0, yellow),
            ("yellow", yellow, red),
            ("red", red, self._width),
        ]:
            text.stylize(style, start, end)
        return text


def _time_of(event: Event) -> str:
    """Time of day if known, otherwise seconds in the stream."""
    if event.started_at is None:
        return f"{event.start_seconds:7.1f} s"
    return time.strftime("%H:%M:%S", time.localtime(event.started_at))
