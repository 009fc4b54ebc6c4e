"""CPU time of each stage of listening per second of sound."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from training.bench.contenders import Contest
from training.bench.core import SINGLE_THREADED
from training.bench.listening import LOG_MEL, NETWORK, RESAMPLE, STAGES
from training.bench.stages import OUTSIDE

COLUMNS = (*STAGES, OUTSIDE)
FRONT_END = (RESAMPLE, LOG_MEL)
_TURN_SECONDS = 10.0
_FRONT_END_TARGET_MS = 2.0


@dataclass
class Loop:
    """Listener and its measurements, one per round.

    Args:
        bundle: path of the model.
        hop_seconds: time between two windows.
        milliseconds: CPU time per second of sound, by stage.
        page_faults: minor page faults per second of sound.
        new_blocks: Python memory blocks still in use after the round.
    """

    bundle: Path
    hop_seconds: float
    milliseconds: list[dict[str, float]] = field(default_factory=list)
    page_faults: list[float] = field(default_factory=list)
    new_blocks: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Title in tables."""
        return f"{self.bundle.stem}, hop {self.hop_seconds:g} s"


def measure_loops(
    bundles: Sequence[Path], hops: Sequence[float], rate_hz: int, rounds: int
) -> tuple[list[Loop], dict[str, str]]:
    """Measure a listener for each bundle and hop, one at a time, on one core.

    Args:
        bundles: paths of the models.
        hops: seconds between two windows.
        rate_hz: sample rate of the incoming sound.
        rounds: number of measurements per listener, each over ten seconds of sound.

    Returns:
        Listeners that finished, and the reason for each failure by listener name.
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
                    loops[name].new_blocks.append(turn["new_blocks"])
        return [loops[name] for name in contest.running], contest.left_out


def stream_tables(loops: Sequence[Loop], left_out: dict[str, str], rate_hz: int) -> str:
    """Tables of CPU time by stage and of the front end's time against its target."""
    lines = [
        f"| CPU ms per second of sound | {' | '.join(COLUMNS)} | all "
        "| page faults | blocks left behind |",
        "| --- " * (len(COLUMNS) + 4) + "|",
    ]
    for loop in loops:
        cells = [f"{median_ms(loop, (stage,)):.3f}" for stage in COLUMNS]
        cells += [f"{median_ms(loop, COLUMNS):.2f}", f"{median(loop.page_faults):.0f}"]
        cells.append(f"{median(loop.new_blocks):.0f}")
        lines.append(f"| {loop.name} | {' | '.join(cells)} |")
    lines += [
        "",
        "| front end (resample, log-mel), CPU ms | target | measured | | of the network |",
    ]
    lines.append("| --- | --- | --- | --- | --- |")
    for loop in loops:
        front_end = median_ms(loop, FRONT_END)
        reached = "reached" if front_end <= _FRONT_END_TARGET_MS else "missed"
        share = front_end / median_ms(loop, (NETWORK,))
        lines.append(
            f"| {loop.name} | ≤ {_FRONT_END_TARGET_MS:g} | {front_end:.2f} | {reached} "
            f"| {100 * share:.1f} % |"
        )
    rounds = max((len(loop.milliseconds) for loop in loops), default=0)
    lines += [
        "",
        f"- 16-bit mono sound at {rate_hz} Hz in chunks of 0.1 s; one core; one process per "
        f"listener; medians of {rounds} interleaved rounds of {_TURN_SECONDS:g} s of sound",
        "- resample: from bytes to samples at the model's rate; windows: ring, level and results; "
        "output: JSON lines, discarded; loop: everything else, including the measurement",
        f"- blocks: Python memory blocks still in use after {_TURN_SECONDS:g} s of sound",
        *(f"- left out: {name}: {reason}" for name, reason in left_out.items()),
    ]
    return "\n".join(lines)


def median_ms(loop: Loop, stages: Sequence[str]) -> float:
    """Median over rounds of the summed CPU milliseconds of some stages."""
    return median(sum(spent[stage] for stage in stages) for spent in loop.milliseconds)
