"""CPU time of each stage of listening per second of sound.

A bundle with a tagger is also measured with a tagger that hears all of each window.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from edge.inference.bundle import BundleError, read_contract
from training.bench.contenders import Contest
from training.bench.core import SINGLE_THREADED
from training.bench.listening import LOG_MEL, NETWORK, RESAMPLE, STAGES, WINDOWS
from training.bench.stages import OUTSIDE

COLUMNS = (*STAGES, OUTSIDE)
FRONT_END = (RESAMPLE, LOG_MEL)
_CLASSIFIER = (LOG_MEL, WINDOWS, NETWORK)
_TURN_SECONDS = 10.0
_FRONT_END_TARGET_MS = 2.0
_TAGGER_TARGET = 0.35


@dataclass
class Loop:
    """Listener and its measurements, one per round.

    Args:
        bundle: path of the model.
        hop_seconds: time between two windows.
        milliseconds: CPU time per second of sound, by stage.
        page_faults: minor page faults per second of sound.
        new_blocks: Python memory blocks still in use after the round.
        anew: whether the bundle's tagger hears all of each window.
    """

    bundle: Path
    hop_seconds: float
    milliseconds: list[dict[str, float]] = field(default_factory=list)
    page_faults: list[float] = field(default_factory=list)
    new_blocks: list[int] = field(default_factory=list)
    anew: bool = False

    @property
    def name(self) -> str:
        """Title in tables."""
        return f"{self.bundle.stem}, hop {self.hop_seconds:g} s{', anew' if self.anew else ''}"


def measure_loops(
    bundles: Sequence[Path], hops: Sequence[float], rate_hz: int, rounds: int
) -> tuple[list[Loop], dict[str, str]]:
    """Measure a listener for each bundle and hop, one at a time, on one core.

    A bundle with a tagger has a second listener, whose tagger hears all of each window.

    Args:
        bundles: paths of the models.
        hops: seconds between two windows.
        rate_hz: sample rate of the incoming sound.
        rounds: number of measurements per listener, each over ten seconds of sound.

    Returns:
        Listeners that finished, and the reason for each failure by listener name.
    """
    listeners = (
        Loop(bundle, hop, anew=anew)
        for bundle in bundles
        for hop in hops
        for anew in ((False, True) if _has_tagger(bundle) else (False,))
    )
    loops = {loop.name: loop for loop in listeners}
    with Contest() as contest:
        for name, loop in loops.items():
            arguments = [str(loop.bundle), str(loop.hop_seconds), str(rate_hz)]
            arguments += ["anew"] if loop.anew else []
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


def _has_tagger(bundle: Path) -> bool:
    try:
        return read_contract(bundle).tagger is not None
    except BundleError:
        return False  # the listener reports it


def stream_tables(loops: Sequence[Loop], left_out: dict[str, str], rate_hz: int) -> str:
    """Tables of CPU time by stage, and of targets for the front end and for taggers."""
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
    for loop in (loop for loop in loops if not loop.anew):
        front_end = median_ms(loop, FRONT_END)
        reached = "reached" if front_end <= _FRONT_END_TARGET_MS else "missed"
        share = front_end / median_ms(loop, (NETWORK,))
        lines.append(
            f"| {loop.name} | ≤ {_FRONT_END_TARGET_MS:g} | {front_end:.2f} | {reached} "
            f"| {100 * share:.1f} % |"
        )
    lines += _tagger_table(loops)
    rounds = max((len(loop.milliseconds) for loop in loops), default=0)
    lines += [
        "",
        f"- 16-bit mono sound at {rate_hz} Hz in chunks of 0.1 s; one core; one process per "
        f"listener; medians of {rounds} interleaved rounds of {_TURN_SECONDS:g} s of sound",
        "- resample: from bytes to samples at the model's rate; windows: ring, level and results; "
        "output: JSON lines, discarded; loop: everything else, including the measurement",
        "- anew: the bundle's tagger hears all of each window, as if windows did not overlap; else "
        "each of its own windows once; network: with the tagger",
        f"- blocks: Python memory blocks still in use after {_TURN_SECONDS:g} s of sound",
        *(f"- left out: {name}: {reason}" for name, reason in left_out.items()),
    ]
    return "\n".join(lines)


def _tagger_table(loops: Sequence[Loop]) -> list[str]:
    """Table of the classifiers with a tagger, against those whose windows share nothing."""
    rows = []
    for loop in loops:
        pair = (loop.bundle, loop.hop_seconds, True)
        other = next((o for o in loops if (o.bundle, o.hop_seconds, o.anew) == pair), None)
        if loop.anew or other is None:
            continue
        ratios = [
            _sum(spent, _CLASSIFIER) / _sum(anew, _CLASSIFIER)
            for spent, anew in zip(loop.milliseconds, other.milliseconds, strict=True)
        ]
        reached = "reached" if median(ratios) <= _TAGGER_TARGET else "missed"
        rows.append(
            f"| {loop.name} | {median_ms(loop, _CLASSIFIER):.2f} "
            f"| {median_ms(other, _CLASSIFIER):.2f} "
            f"| {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| ≤ {_TAGGER_TARGET:g} | {reached} |"
        )
    header = [
        "",
        "| classifier with a tagger (log-mel, windows, network), CPU ms | each tagger window once "
        "| each window anew | ratio within a round | target | |",
        "| --- " * 6 + "|",
    ]
    return [*header, *rows] if rows else []


def median_ms(loop: Loop, stages: Sequence[str]) -> float:
    """Median over rounds of the summed CPU milliseconds of some stages."""
    return median(_sum(spent, stages) for spent in loop.milliseconds)


def _sum(spent: dict[str, float], stages: Sequence[str]) -> float:
    return sum(spent[stage] for stage in stages)
