"""Markdown tables of the results of `training.bench.encoder`."""

from collections.abc import Sequence
from statistics import median

from training.bench.encoder import CLAP_SIZE, REFERENCE, Entry, Outcome

# Target for the CPU time of a window relative to another contender, at most.
_RATIO_TARGETS = (
    ("float32", "torch", 0.40),
    ("float32", "onnx", 0.78),
    ("int8", "torch", 0.18),
    ("int8", "onnx-int8", 0.70),
)
_SMALL_TARGET = 0.15
_PEAK_SHARE_TARGET = 0.70
_FRONT_END_TARGET_MS = 10.0
_COSINE_TARGET = 0.999


def encoder_table(outcome: Outcome) -> str:
    """Table of times, work and memory of the contenders.

    Args:
        outcome: results with at least one entry.
    """
    entries = outcome.entries
    baseline = entries.get("torch") or next(iter(entries.values()))
    peak = max(_peaks(outcome).values(), default=0.0)
    lines = [
        f"| contender | GMAC | CPU ms | wall ms | against {baseline.title} "
        "| of the core's peak | cold start, s (CPU) | memory, MB | partitions | cosine |",
        "| --- " * 10 + "|",
    ]
    for entry in entries.values():
        share = f"{100 * _flops(entry) / peak:.0f} %" if peak else ""
        cells = (
            entry.title + (f" ({entry.invocations} runs)" if entry.invocations > 1 else ""),
            f"{_macs(entry) / 1e9:.3g}",
            f"{1e3 * median(entry.cpu_seconds):.2f}",
            f"{1e3 * median(entry.wall_seconds):.2f}",
            _spread(cpu_ratios(entry, baseline)),
            share,
            f"{entry.cold_seconds:.2f} ({entry.cold_cpu_seconds:.2f})",
            f"{entry.peak_mb:.0f}",
            "" if entry.partitions is None else str(entry.partitions),
            "" if entry.cosine is None else f"{entry.cosine:.5f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {note}" for note in _notes(outcome))]
    lines += [f"- left out: {title}: {reason}" for title, reason in outcome.left_out.items()]
    return "\n".join(lines)


def target_table(outcome: Outcome, preset: str) -> str:
    """Table of targets and whether each was reached; empty if none applies.

    Args:
        outcome: results of a race.
        preset: name of the preset that was measured.
    """
    rows = []
    for title, value, target, text in _targets(outcome, preset):
        reached = value <= target if text.startswith("≤") else value >= target
        rows.append(f"| {title} | {text} | {value:.4g} | {'reached' if reached else 'missed'} |")
    header = ["| what | target | measured | |", "| --- | --- | --- | --- |"]
    return "\n".join([*header, *rows]) if rows else ""


def _targets(outcome: Outcome, preset: str) -> list[tuple[str, float, float, str]]:
    """Title, value, limit and text of the limit for each target that applies."""
    entries, peaks = outcome.entries, _peaks(outcome)
    found = []
    if preset == REFERENCE:
        for ours, peer, limit in _RATIO_TARGETS:
            if ours in entries and peer in entries:
                title = f"{entries[ours].title} against {entries[peer].title}"
                ratio = median(cpu_ratios(entries[ours], entries[peer]))
                found.append((title, ratio, limit, f"≤ {limit:g}"))
        if "float32" in entries:
            for kind, rate in peaks.items():
                title = f"{entries['float32'].title}, share of the core's {kind}"
                share = _flops(entries["float32"]) / rate
                found.append((title, share, _PEAK_SHARE_TARGET, f"≥ {_PEAK_SHARE_TARGET:g}"))
    elif preset != CLAP_SIZE and "float32" in entries and REFERENCE in entries:
        title = f"{preset} against {REFERENCE}, float32, a window of each"
        ratio = median(cpu_ratios(entries["float32"], entries[REFERENCE]))
        found.append((title, ratio, _SMALL_TARGET, f"≤ {_SMALL_TARGET:g}"))
    if "float32" in entries and "waveform" in entries:
        pairs = zip(entries["waveform"].cpu_seconds, entries["float32"].cpu_seconds, strict=True)
        front_end_ms = 1e3 * median(total - network for total, network in pairs)
        limit = _FRONT_END_TARGET_MS
        found.append(("front end in the graph, CPU ms", front_end_ms, limit, f"≤ {limit:g}"))
    for entry in entries.values():
        if entry.cosine is not None:
            found.append(
                (
                    f"{entry.title}: cosine to float32",
                    entry.cosine,
                    _COSINE_TARGET,
                    f"≥ {_COSINE_TARGET:g}",
                )
            )
    return found


def _notes(outcome: Outcome) -> list[str]:
    """Explanations of the columns."""
    some = next(iter(outcome.entries.values()))
    rates = ", ".join(f"{kind} {rate / 1e9:.1f}" for kind, rate in _peaks(outcome).items())
    runtimes = dict.fromkeys(entry.runtime for entry in outcome.entries.values())
    return [
        f"a window is {some.seconds:g} s; one core, one thread, one process per contender; medians "
        f"of {len(some.cpu_seconds)} interleaved rounds; ratios of CPU time (lowest to highest) "
        "are taken within a round",
        f"core: {rates} GFLOP/s in float32; shares are of the highest rate, also for int8",
        "cold start: from process start to the first result, once, with files in the page cache; "
        "memory: peak resident size until then, in MB of 2^20 bytes",
        f"cosine: smallest between embeddings and those of the float32 bundle, on {outcome.clips}",
        f"runtimes: {', '.join(runtimes)}",
        "our models include the head and 50 labels; Hugging Face's ClapAudioModel ends with "
        "its pooled output; weights are random unless --model is given",
    ]


def _peaks(outcome: Outcome) -> dict[str, float]:
    """Median rate of the core by method of measurement."""
    return {kind: median(rates) for kind, rates in outcome.peaks.items()}


def _macs(entry: Entry) -> int:
    """Multiply-accumulates per window."""
    return (entry.macs or 0) * entry.invocations


def _flops(entry: Entry) -> float:
    """Operations per second of CPU time."""
    return 2 * _macs(entry) / median(entry.cpu_seconds)


def cpu_ratios(entry: Entry, baseline: Entry) -> list[float]:
    """Ratio of CPU times in each round."""
    pairs = zip(entry.cpu_seconds, baseline.cpu_seconds, strict=True)
    return [cpu / base for cpu, base in pairs]


def _spread(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
