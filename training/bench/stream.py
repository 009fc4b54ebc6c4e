"""What listening costs, stage by stage, for a second of sound."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from training.bench.contenders import Contest
from training.bench.core import SINGLE_THREADED
from training.bench.listening import LOG_MEL, NETWORK, RESAMPLE, STAGES
from training.bench.stages import OUTSIDE

_COLUMNS = (*STAGES, OUTSIDE)
_TURN_SECONDS = 10.0
_FRONT_END_TARGET_MS = 2.0


@dataclass
class Loop:
    """A listener, and what was measured.

    Args:
        bundle: its model.
        hop_seconds: time between two windows.
        milliseconds: of CPU time for a second of sound, by stage, in each round.
        page_faults: for a second of sound, in each round.
        most_bytes: what each stage had in use at once, beyond what was there when it began.
        new_blocks: of Python's memory that a turn left behind.
    """

    bundle: Path
    hop_seconds: float
    milliseconds: list[dict[str, float]] = field(default_factory=list)
    page_faults: list[float] = field(default_factory=list)
    most_bytes: dict[str, int] = field(default_factory=dict)
    new_blocks: int = 0

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.bundle.stem}, hop {self.hop_seconds:g} s"


def measure_loops(
    bundles: Sequence[Path], hops: Sequence[float], rate_hz: int, rounds: int
) -> tuple[list[Loop], dict[str, str]]:
    """Let a listener of each bundle and hop hear sound, one at a time, on one core.

    Args:
        bundles: models.
        hops: seconds between two windows.
        rate_hz: of the sound that comes in.
        rounds: turns of ten seconds of sound that each gets.

    Returns:
        Those that finished, and why the others did not.
    """
    loops = {loop.name: loop for loop in (Loop(b, hop) for b in bundles for hop in hops)}
    with Contest() as contest:
        for name, loop in loops.items():
            arguments = [str(loop.bundle), str(loop.hop_seconds), str(rate_hz)]
            command = [sys.executable, "-m", "training.bench.listening", *arguments]
            contest.start(name, command, SINGLE_THREADED)
        for _ in range(rounds):
            for name in list(contest.running):
                for turn in contest.ask({name: str(_TURN_SECONDS)}).values():
                    spent = {stage: 1e3 * seconds for stage, seconds in turn["seconds"].items()}
                    loops[name].milliseconds.append(spent)
                    loops[name].page_faults.append(turn["page_faults"])
        for name in list(contest.running):
            for turn in contest.ask({name: str(-_TURN_SECONDS)}).values():
                loops[name].most_bytes = turn["most_bytes"]
                loops[name].new_blocks = turn["new_blocks"]
        return [loops[name] for name in contest.running], contest.left_out


def stream_tables(loops: Sequence[Loop], left_out: dict[str, str], rate_hz: int) -> str:
    """Time and memory of the stages, and whether the front end is as quick as is wanted."""
    lines = [
        f"| CPU ms for a second of sound | {' | '.join(_COLUMNS)} | all | page faults |",
        "| --- " * (len(_COLUMNS) + 3) + "|",
    ]
    for loop in loops:
        cells = [f"{_median(loop, (stage,)):.3f}" for stage in _COLUMNS]
        cells += [f"{_median(loop, _COLUMNS):.2f}", f"{median(loop.page_faults):.0f}"]
        lines.append(f"| {loop.name} | {' | '.join(cells)} |")
    lines += [
        "",
        f"| most memory in use at once, KB | {' | '.join(_COLUMNS)} | blocks left behind |",
        "| --- " * (len(_COLUMNS) + 2) + "|",
    ]
    for loop in loops:
        cells = [f"{loop.most_bytes[stage] / 1024:.1f}" for stage in _COLUMNS]
        lines.append(f"| {loop.name} | {' | '.join(cells)} | {loop.new_blocks} |")
    lines += [
        "",
        "| front end (resample, log-mel), CPU ms | wanted | measured | | of the network |",
    ]
    lines.append("| --- | --- | --- | --- | --- |")
    for loop in loops:
        front_end = _median(loop, (RESAMPLE, LOG_MEL))
        reached = "reached" if front_end <= _FRONT_END_TARGET_MS else "missed"
        share = front_end / _median(loop, (NETWORK,))
        lines.append(
            f"| {loop.name} | ≤ {_FRONT_END_TARGET_MS:g} | {front_end:.2f} | {reached} "
            f"| {100 * share:.1f} % |"
        )
    rounds = max((len(loop.milliseconds) for loop in loops), default=0)
    lines += [
        "",
        f"- sound of {rate_hz} Hz, 16 bits, mono, in chunks of 0.1 s; one core; a listener of its "
        f"own process each; medians of {rounds} interleaved rounds of {_TURN_SECONDS:g} s of sound",
        "- resample: from bytes to samples at the model's rate; windows: ring, level and results; "
        "output: JSON lines into the void; loop: all else, the measuring too",
        "- memory: in a turn of its own, what a stage had at once beyond what was there when it "
        f"began, by tracemalloc; blocks: of Python's memory, after {_TURN_SECONDS:g} s of sound",
        *(f"- left out: {name}: {reason}" for name, reason in left_out.items()),
    ]
    return "\n".join(lines)


def _median(loop: Loop, stages: Sequence[str]) -> float:
    """Of the rounds' sums over some stages."""
    return median(sum(spent[stage] for stage in stages) for spent in loop.milliseconds)
