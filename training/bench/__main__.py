"""Command line of the benchmarks: `python -m training.bench train --preset base`."""

import argparse
import inspect
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from edge.config.options import CommandParser
from edge.inference.bundle import Quantization
from semanticac_keras import CSCM, ExportError, HTSATEncoder, TextEncoder, presets
from semanticac_keras.tagger import Tagger, TaggerError
from training.bench.contenders import ContenderError
from training.bench.encoder import (
    CLAP_SIZE,
    ENCODERS,
    compare_encoders,
    export_on_tagger,
    export_random,
)
from training.bench.encoder_tables import encoder_table, target_table
from training.bench.race import TITLES, run_race
from training.bench.ratios import measure_ratios, ratio_table
from training.bench.sharing import sharing_table
from training.bench.stream import measure_loops, stream_tables
from training.bench.tables import setting, train_table
from training.bench.workload import Workload
from training.datasets import DatasetError
from training.learning.options import positive_int
from training.learning.recipes import Recipe

_PROGRAM = "training.bench"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        Exit status: 0, 1 if nothing could run or a row of `ratios` failed, 130 after an interrupt.
    """
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parse(argv)
    print(f"# {arguments.title}\n\n{setting(argv)}", flush=True)
    try:
        passes = arguments.run(arguments)
    except (ContenderError, DatasetError, ExportError, TaggerError) as error:
        print(f"{_PROGRAM}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{_PROGRAM}: interrupted", file=sys.stderr)
        return 130
    return 0 if passes else 1


def _encoder(arguments: argparse.Namespace) -> bool:
    """Print the speed of one window and the targets."""
    with tempfile.TemporaryDirectory(prefix=f"{_PROGRAM}-") as folder:
        outcome = compare_encoders(
            [name for name in ENCODERS if name in arguments.contenders],
            arguments.preset,
            arguments.rounds,
            Path(folder),
            arguments.model,
            arguments.data_dir,
            arguments.peer,
            arguments.peer_rate,
            arguments.tflite_python,
        )
    if not outcome.entries:
        raise ContenderError("; ".join(f"{who}: {why}" for who, why in outcome.left_out.items()))
    print(f"\n## A window\n\n{encoder_table(outcome)}")
    if targets := target_table(outcome, arguments.preset):
        print(f"\n## Targets\n\n{targets}")
    return True


def _train(arguments: argparse.Namespace) -> bool:
    """Print a table of train steps for each precision."""
    names = [name for name in TITLES if name in arguments.contenders]
    for precision in arguments.precision:
        workload = make_workload(arguments.preset, arguments.batch_size, precision)
        results, left_out = run_race(names, workload, arguments.rounds)
        if not results:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            raise ContenderError(f"nothing could train: {reasons}")
        print(f"\n## Train step, batches of {arguments.batch_size}, {precision}\n")
        print(train_table(workload, results, left_out), flush=True)
    return True


def make_workload(preset: str, batch_size: int, precision: str) -> Workload:
    """Training step in the sizes of a preset.

    Args:
        preset: one of `semanticac_keras.presets.PRESETS`.
        batch_size: number of clips.
        precision: `"float32"` or `"mixed_bfloat16"`.
    """
    parts = presets.get(preset)
    return Workload(
        batch_size,
        precision,
        parts.front_end.to_json(),
        _with_defaults(HTSATEncoder, parts.audio_encoder),
        _with_defaults(CSCM, parts.cscm),
        _with_defaults(TextEncoder, parts.text_encoder),
    )


def _with_defaults(cls: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Complete the arguments of a constructor with its defaults."""
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | arguments


def _stream(arguments: argparse.Namespace) -> bool:
    """Print the CPU time of listening by stage."""
    with tempfile.TemporaryDirectory(prefix=f"{_PROGRAM}-") as folder:
        if arguments.tagger:
            tagger = Tagger(arguments.tagger, arguments.tagger_rate)
            bundles = [export_on_tagger(tagger, Path(folder))]
        else:
            bundles = arguments.model or [
                export_random(arguments.preset, quantization, "log_mel", Path(folder))
                for quantization in arguments.quantization
            ]
        loops, left_out = measure_loops(bundles, arguments.hop, arguments.rate, arguments.rounds)
    if not loops:
        raise ContenderError("; ".join(f"{who}: {why}" for who, why in left_out.items()))
    print(f"\n{stream_tables(loops, left_out, arguments.rate)}")
    return True


def _sharing(arguments: argparse.Namespace) -> bool:
    """Print the shared work of two windows, for the preset and for a variant without resizing."""
    for whole_chunks, title in ((False, "Preset"), (True, "Without resizing")):
        table = sharing_table(arguments.preset, arguments.hop, whole_chunks)
        print(f"\n## {title}: tokens shared with the previous window\n\n{table}", flush=True)
    return True


def _ratios(arguments: argparse.Namespace) -> bool:
    """Print ratios and properties beside their expectations; return whether all pass."""
    with tempfile.TemporaryDirectory(prefix=f"{_PROGRAM}-") as folder:
        ratios = measure_ratios(arguments.rounds, Path(folder))
    print(f"\n{ratio_table(ratios)}")
    return all(ratio.passes for ratio in ratios)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        prog=f"python -m {_PROGRAM}",
        description="Benchmark inference, listening and training on this machine.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train steps of our model and of a peer")
    train.set_defaults(run=_train, title="Train steps")
    encoder = commands.add_parser("encoder", help="one window in our model and in peers")
    encoder.set_defaults(run=_encoder, title="Windows")
    stream = commands.add_parser("stream", help="CPU time of listening by stage")
    stream.set_defaults(run=_stream, title="Listening")
    sharing = commands.add_parser("sharing", help="work that overlapping windows have in common")
    sharing.set_defaults(run=_sharing, title="Overlapping windows")
    ratios = commands.add_parser("ratios", help="ratios of speed beside their expectations")
    ratios.set_defaults(run=_ratios, title="Ratios")
    sizes = sorted(presets.PRESETS)
    for command in (train, encoder, stream, sharing):
        more = [CLAP_SIZE] if command in (encoder, stream) else []
        command.add_argument("--preset", choices=[*sizes, *more], default="base")
    train.add_argument("--batch-size", type=positive_int, default=16)
    precisions = get_args(get_type_hints(Recipe)["precision"])
    train.add_argument("--precision", choices=precisions, nargs="+", default=["float32"])
    for command, rounds in ((train, 5), (encoder, 9), (stream, 5), (ratios, 3)):
        command.add_argument(
            "--rounds", type=positive_int, default=rounds, help="measurements per contender"
        )
    for command, contenders in ((train, TITLES), (encoder, ENCODERS)):
        command.add_argument(
            "--contenders", choices=contenders, nargs="+", default=list(contenders)
        )
    encoder.add_argument("--model", type=Path, help="a saved model instead of random weights")
    encoder.add_argument("--data-dir", type=Path, help="sounds for the cosines")
    encoder.add_argument("--peer", type=Path, nargs="+", default=[], metavar="FILE.tflite")
    encoder.add_argument("--peer-rate", type=positive_int, default=16_000, metavar="HZ")
    encoder.add_argument(
        "--tflite-python",
        default=os.environ.get("SEMANTICAC_TFLITE_PYTHON"),
        metavar="PYTHON",
        help="interpreter with tflite-runtime, to run our models there as well",
    )
    models = stream.add_mutually_exclusive_group()
    models.add_argument(
        "--model", type=Path, nargs="+", metavar="BUNDLE", help="instead of a preset"
    )
    models.add_argument(
        "--tagger",
        type=Path,
        metavar="FILE.tflite",
        help="instead of a preset, a head with random weights on this tagger's embeddings",
    )
    stream.add_argument("--tagger-rate", type=positive_int, default=16_000, metavar="HZ")
    quantizations = get_args(Quantization)
    stream.add_argument(
        "--quantization",
        choices=quantizations,
        nargs="+",
        default=["float32", "dynamic_int8"],
        help="quantization of the preset",
    )
    stream.add_argument("--hop", type=_positive, nargs="+", default=[1.0, 0.25], metavar="SECONDS")
    stream.add_argument("--rate", type=positive_int, default=48_000, metavar="HZ")
    sharing.add_argument(
        "--hop", type=positive_int, nargs="+", default=[25, 32, 64, 100, 256, 512], metavar="FRAMES"
    )
    return parser.parse_args(argv)


def _positive(text: str) -> float:
    """Parse a positive, finite number."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be positive and finite. Received: {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
