"""Ratios of speed and properties of the bundles, with the expectations of docs/performance.md."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from training.bench.contenders import ContenderError
from training.bench.encoder import ENCODERS, REFERENCE, Outcome, compare_encoders
from training.bench.encoder_tables import cpu_ratios
from training.bench.inference import FUSED_MULTIPLY_ADDS, MATRIX_PRODUCT
from training.bench.listening import NETWORK
from training.bench.stream import COLUMNS, FRONT_END, Loop, measure_loops, median_ms

# A ratio fails if it exceeds its expectation by more than this factor.
TOLERANCE = 2.0
_CONTENDERS = ("float32", "int8", "torch")
# Expected CPU time of a window relative to `torch`.
_FLOAT32 = 0.65
# With the processor's instructions for int8 products (VNNI), and without.
_INT8, _INT8_WITHOUT_VNNI = 0.26, 0.67
# Expected CPU time relative to the network while listening.
_FRONT_END_SHARE = 0.03
_OTHERS_SHARE = 0.02
_HOP_SECONDS = 1.0
_RATE_HZ = 48_000
# Smallest cosine of the int8 bundle's embeddings to those of the float32 bundle.
_INT8_COSINE = 0.998


@dataclass(frozen=True)
class Ratio:
    """Measured ratio with its expectation. Smaller is better.

    Args:
        title: of the row in the table.
        measured: the ratio.
        expected: the ratio that is usually reached.
    """

    title: str
    measured: float
    expected: float

    @property
    def passes(self) -> bool:
        """Whether the ratio is within `TOLERANCE` of its expectation."""
        return self.measured <= TOLERANCE * self.expected

    @property
    def cells(self) -> tuple[str, str]:
        """Measurement and expectation for the table."""
        return f"{self.measured:.3f}", f"{self.expected:g}"


@dataclass(frozen=True)
class Property:
    """Property of an exported bundle, which does not depend on the machine's speed.

    Args:
        title: of the row in the table.
        measured: the measurement.
        expected: the requirement in words.
        passes: whether the measurement meets it.
    """

    title: str
    measured: float
    expected: str
    passes: bool

    @property
    def cells(self) -> tuple[str, str]:
        """Measurement and expectation for the table."""
        return f"{self.measured:.5g}", self.expected


def measure_ratios(rounds: int, folder: Path) -> list[Ratio | Property]:
    """Measure windows of the reference preset and a listener, and check the preset's bundles.

    Args:
        rounds: number of interleaved measurements per contender.
        folder: directory for the exported models.

    Raises:
        ContenderError: if a contender fails.
    """
    outcome = compare_encoders(list(_CONTENDERS), REFERENCE, rounds, folder)
    _require_all(outcome.left_out)
    loops, left_out = measure_loops(
        [folder / f"{REFERENCE}-float32.tflite"], [_HOP_SECONDS], _RATE_HZ, rounds
    )
    _require_all(left_out)
    return [*window_ratios(outcome), *loop_ratios(loops[0]), *bundle_properties(outcome)]


def expected_windows(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, float]:
    """Expected CPU time of a window relative to `torch`, by contender, on this processor."""
    has_vnni = not cpuinfo.exists() or "_vnni" in cpuinfo.read_text()
    return {"float32": _FLOAT32, "int8": _INT8 if has_vnni else _INT8_WITHOUT_VNNI}


def window_ratios(outcome: Outcome) -> Iterator[Ratio]:
    """CPU time of a window relative to PyTorch, and matrix products relative to the core's peak."""
    peer = outcome.entries["torch"]
    for name, expected in expected_windows().items():
        title = f"{ENCODERS[name]}, against {ENCODERS['torch']}"
        yield Ratio(title, median(cpu_ratios(outcome.entries[name], peer)), expected)
    if FUSED_MULTIPLY_ADDS in outcome.peaks:
        product, peak = (
            median(outcome.peaks[kind]) for kind in (MATRIX_PRODUCT, FUSED_MULTIPLY_ADDS)
        )
        yield Ratio(f"rate of {MATRIX_PRODUCT}, against {FUSED_MULTIPLY_ADDS}", product / peak, 1.0)


def loop_ratios(loop: Loop) -> Iterator[Ratio]:
    """CPU time of the front end and of the remaining stages relative to the network."""
    network = median_ms(loop, (NETWORK,))
    others = [stage for stage in COLUMNS if stage not in (NETWORK, *FRONT_END)]
    for title, stages, expected in (
        ("front end, against the network", FRONT_END, _FRONT_END_SHARE),
        ("other stages, against the network", others, _OTHERS_SHARE),
    ):
        yield Ratio(title, median_ms(loop, stages) / network, expected)


def bundle_properties(outcome: Outcome) -> Iterator[Property]:
    """Delegate partitions of our bundles, and the smallest cosine of int8 to float32."""
    for name in ("float32", "int8"):
        partitions = outcome.entries[name].partitions or 0
        title = f"{ENCODERS[name]}: delegate partitions"
        yield Property(title, partitions, "1", partitions == 1)
    cosine = outcome.entries["int8"].cosine
    measured = math.nan if cosine is None else cosine
    title = f"{ENCODERS['int8']}: smallest cosine to float32"
    yield Property(title, measured, f"above {_INT8_COSINE:g}", measured > _INT8_COSINE)


def ratio_table(ratios: Sequence[Ratio | Property]) -> str:
    """Markdown table of the ratios and properties."""
    lines = ["| | measured | expected | |", "| --- | --- | --- | --- |"]
    for ratio in ratios:
        verdict = "passed" if ratio.passes else "failed"
        lines.append(f"| {' | '.join([ratio.title, *ratio.cells, verdict])} |")
    return "\n".join([*lines, "", f"- a ratio fails above {TOLERANCE:g} times its expectation"])


def _require_all(left_out: dict[str, str]) -> None:
    if left_out:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ContenderError(f"ratios need every contender: {reasons}")
