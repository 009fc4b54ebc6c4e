"""What was measured, as Markdown."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from training.bench.race import TITLES, Result
from training.bench.workload import Workload

_PACKAGES = (
    *("keras", "tensorflow", "jax", "torch", "transformers", "numpy"),
    *("ai-edge-litert", "onnxruntime", "soxr"),
)


def setting(arguments: Sequence[str]) -> str:
    """Date, machine, versions and command.

    Args:
        arguments: of the command.
    """
    versions = [f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    return (
        f"- {datetime.now(UTC):%Y-%m-%d}; {_machine()}\n"
        f"- {', '.join(versions)}\n"
        f"- `{' '.join(['python -m training.bench', *arguments])}`"
    )


def train_table(workload: Workload, results: Sequence[Result], left_out: Mapping[str, str]) -> str:
    """Rates of the contenders, and how they compare.

    Args:
        workload: what they trained.
        results: of those that finished, at least one, peers last.
        left_out: the others, and why.
    """
    by_name = {result.name: result for result in results}
    baseline = by_name.get("peer-compiled") or by_name.get("peer-eager") or results[0]
    product_rate = max(median(result.product_flops_per_second) for result in results)
    counted = [(result.name, result.flops) for result in results if result.flops is not None]
    lines = [
        "| contender | runs on | parameters | step, ms | clips/s "
        f"| against {TITLES[baseline.name]} | of the matrix-product rate |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        seconds = workload.batch_size / median(result.clips_per_second)
        pairs = zip(result.clips_per_second, baseline.clips_per_second, strict=True)
        ratios = [rate / base for rate, base in pairs]
        share = f"{100 * counted[-1][1] / seconds / product_rate:.3g} %" if counted else ""
        lines.append(
            f"| {TITLES[result.name]} | {result.device} | {result.num_parameters:,} "
            f"| {1e3 * seconds:.1f} | {workload.batch_size / seconds:.2f} "
            f"| {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {share} |"
        )
    lines += ["", *(f"- {note}" for note in _notes(workload, results, product_rate, counted))]
    lines += [f"- left out: {TITLES[name]}: {reason}" for name, reason in left_out.items()]
    return "\n".join(lines)


def _notes(
    workload: Workload,
    results: Sequence[Result],
    product_rate: float,
    counted: Sequence[tuple[str, int]],
) -> list[str]:
    """What the columns mean."""
    notes = [
        "a step: waveforms in, log-mel, audio encoder and head, text encoder on "
        f"{workload.num_labels} texts of {workload.text_length} tokens, symmetric contrastive "
        "loss, backward, SGD with Nesterov momentum",
        f"medians of {len(results[0].clips_per_second)} interleaved rounds, each turn after a step "
        "that is not timed; ratios (lowest to highest) are taken within a round",
        f"matrix-product rate: {product_rate / 1e12:.3g} TFLOP/s, the best median of any "
        f"contender's framework, in {workload.precision}; float32 may be TF32 where there is any",
    ]
    if counted:
        name, flops = counted[-1]
        notes.append(
            f"{flops / 1e12:.4g} TFLOP a step: its matrix products and convolutions, forward and "
            f"backward, as PyTorch's FlopCounterMode counts them in: {TITLES[name]}"
        )
    if any(result.name.startswith("peer") for result in results):
        notes.append(
            "Hugging Face: ClapAudioModel and CLIPTextModelWithProjection of the same sizes; "
            "torch.stft, head, loss and loop in plain PyTorch, autocast for mixed precision"
        )
    return notes


def input_table(rates: Mapping[int, float], fastest: float | None) -> str:
    """How fast batches are made.

    Args:
        rates: clips a second by threads.
        fastest: clips a second of the fastest contender, if there was a race.
    """
    lines = ["| threads | clips/s made | against the fastest contender |", "| --- | --- | --- |"]
    for threads, rate in rates.items():
        ratio = "" if fastest is None else f"{rate / fastest:.1f}"
        lines.append(f"| {threads} | {rate:.0f} | {ratio} |")
    return "\n".join(lines)


def _machine() -> str:
    """Processor, its cores, and accelerators."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE)
        name = found.group(1) if found else name
    parts = [f"{name}, {os.cpu_count()} cores"]
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        parts += subprocess.run(query, capture_output=True, text=True).stdout.split("\n")[:-1]
    return ", ".join(parts)
