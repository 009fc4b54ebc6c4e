"""Markdown of the benchmarks: the test setup and the table of train steps."""

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
    """List of date, machine, versions and command.

    Args:
        arguments: command-line arguments.
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
    """Training rates of the contenders and their ratios.

    Args:
        workload: sizes and data of the step.
        results: of the contenders that finished; at least one, peers last.
        left_out: reasons of the contenders that failed, by name.
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
    """Explanations of the columns."""
    notes = [
        "a step: waveforms in, log-mel, audio encoder and head, text encoder on "
        f"{workload.num_labels} texts of {workload.text_length} tokens, symmetric contrastive "
        "loss, backward, SGD with Nesterov momentum",
        f"medians of {len(results[0].clips_per_second)} interleaved rounds, each after one untimed "
        "step; ratios (lowest to highest) are taken within a round",
        f"matrix-product rate: {product_rate / 1e12:.3g} TFLOP/s, the highest median among the "
        f"contenders' frameworks, in {workload.precision}; float32 may be TF32 on accelerators",
    ]
    if counted:
        name, flops = counted[-1]
        notes.append(
            f"{flops / 1e12:.4g} TFLOP a step: matrix products and convolutions, forward and "
            f"backward, counted by PyTorch's FlopCounterMode in: {TITLES[name]}"
        )
    if any(result.name.startswith("peer") for result in results):
        notes.append(
            "Hugging Face: ClapAudioModel and CLIPTextModelWithProjection of the same sizes; "
            "torch.stft, head, loss and loop in plain PyTorch, autocast for mixed precision"
        )
    return notes


def _machine() -> str:
    """Processor, number of cores, and accelerators."""
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
