"""Command line of the benchmarks: `python -m training.bench train --preset base`."""

import argparse
import inspect
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, get_args, get_type_hints

# TensorFlow's start-up notes are not for users.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from edge.config.options import CommandParser
from edge.inference.bundle import Quantization
from semanticac_keras import CSCM, ExportError, HTSATEncoder, TextEncoder, presets
from training.bench.contenders import ContenderError
from training.bench.encoder import ENCODERS, compare_encoders, export_random
from training.bench.encoder_tables import encoder_table, target_table
from training.bench.input_rate import input_rate
from training.bench.race import TITLES, run_race
from training.bench.sharing import sharing_table
from training.bench.stream import measure_loops, stream_tables
from training.bench.tables import input_table, setting, train_table
from training.bench.workload import Workload
from training.datasets import DatasetError
from training.learning.options import positive_int
from training.learning.recipes import Recipe

_PROGRAM = "training.bench"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 (nothing could run) or 130 (interrupted)."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parse(argv)
    print(f"# {arguments.title}\n\n{setting(argv)}", flush=True)
    try:
        arguments.run(arguments)
    except (ContenderError, DatasetError, ExportError) as error:
        print(f"{_PROGRAM}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{_PROGRAM}: interrupted", file=sys.stderr)
        return 130
    return 0


def _train(arguments: argparse.Namespace) -> None:
    """Print a table for each precision, then that of the batches."""
    _input(arguments, _compare_train_steps(arguments))


def _input(arguments: argparse.Namespace, fastest: float | None = None) -> None:
    """Print how fast batches are made."""
    front_end = presets.get(arguments.preset).front_end
    rates = {
        threads: input_rate(front_end, arguments.batch_size, threads)
        for threads in arguments.threads
    }
    print(f"\n## Batches of augmented clips of {front_end.window_seconds:g} s\n")
    print(input_table(rates, fastest))


def _encoder(arguments: argparse.Namespace) -> None:
    """Print how fast a window is answered, and what was wanted."""
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
        print(f"\n## What was wanted\n\n{targets}")


def _compare_train_steps(arguments: argparse.Namespace) -> float:
    """Print a table for each precision; return the clips a second of the fastest contender."""
    names = [name for name in TITLES if name in arguments.contenders]
    fastest = 0.0
    for precision in arguments.precision:
        workload = make_workload(arguments.preset, arguments.batch_size, precision)
        results, left_out = run_race(names, workload, arguments.rounds)
        if not results:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            raise ContenderError(f"nothing could train: {reasons}")
        fastest = max(fastest, *(median(result.clips_per_second) for result in results))
        print(f"\n## Train step, batches of {arguments.batch_size}, {precision}\n")
        print(train_table(workload, results, left_out), flush=True)
    return fastest


def make_workload(preset: str, batch_size: int, precision: str) -> Workload:
    """A step of a preset's size.

    Args:
        preset: one of `semanticac_keras.presets.PRESETS`.
        batch_size: clips.
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


def _with_defaults(cls: type, given: dict[str, Any]) -> dict[str, Any]:
    """Every argument of a constructor."""
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | given


def _stream(arguments: argparse.Namespace) -> None:
    """Print what listening takes, stage by stage."""
    with tempfile.TemporaryDirectory(prefix=f"{_PROGRAM}-") as folder:
        bundles = arguments.model or [
            export_random(arguments.preset, quantization, "log_mel", Path(folder))
            for quantization in arguments.quantization
        ]
        loops, left_out = measure_loops(bundles, arguments.hop, arguments.rate, arguments.rounds)
    if not loops:
        raise ContenderError("; ".join(f"{who}: {why}" for who, why in left_out.items()))
    print(f"\n{stream_tables(loops, left_out, arguments.rate)}")


def _sharing(arguments: argparse.Namespace) -> None:
    """Print what two windows have in common, for the preset and for one that resizes nothing."""
    for whole_chunks, title in ((False, "As it is"), (True, "With as many frames as the chunks")):
        table = sharing_table(arguments.preset, arguments.hop, whole_chunks)
        print(f"\n## {title}: tokens that the window before had\n\n{table}", flush=True)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(prog=f"python -m {_PROGRAM}", description="Measure how fast it is here.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="whole train steps of ours and of a peer")
    train.set_defaults(run=_train, title="Train steps")
    batches = commands.add_parser("input", help="only the batches that training is fed with")
    batches.set_defaults(run=_input, title="Batches")
    encoder = commands.add_parser("encoder", help="a window's answer, by ours and by peers")
    encoder.set_defaults(run=_encoder, title="Windows")
    stream = commands.add_parser("stream", help="what listening takes, stage by stage")
    stream.set_defaults(run=_stream, title="Listening")
    sharing = commands.add_parser("sharing", help="what overlapping windows have in common")
    sharing.set_defaults(run=_sharing, title="Overlapping windows")
    for command in (train, batches, encoder, stream, sharing):
        command.add_argument("--preset", choices=sorted(presets.PRESETS), default="base")
    for command in (train, batches):
        command.add_argument("--batch-size", type=positive_int, default=16)
        command.add_argument("--threads", type=positive_int, nargs="+", default=[1, 2])
    precisions = get_args(get_type_hints(Recipe)["precision"])
    train.add_argument("--precision", choices=precisions, nargs="+", default=["float32"])
    for command, rounds in ((train, 5), (encoder, 9), (stream, 5)):
        command.add_argument(
            "--rounds", type=positive_int, default=rounds, help="turns each contender gets"
        )
    for command, contenders in ((train, TITLES), (encoder, ENCODERS)):
        command.add_argument(
            "--contenders", choices=contenders, nargs="+", default=list(contenders)
        )
    encoder.add_argument("--model", type=Path, help="a saved model in place of random weights")
    encoder.add_argument("--data-dir", type=Path, help="sounds to take cosines on")
    encoder.add_argument("--peer", type=Path, nargs="+", default=[], metavar="FILE.tflite")
    encoder.add_argument("--peer-rate", type=positive_int, default=16_000, metavar="HZ")
    encoder.add_argument(
        "--tflite-python",
        default=os.environ.get("SEMANTICAC_TFLITE_PYTHON"),
        metavar="PYTHON",
        help="one that has tflite-runtime, to run ours as well",
    )
    stream.add_argument("--model", type=Path, nargs="+", metavar="BUNDLE", help="not a preset")
    quantizations = get_args(Quantization)
    stream.add_argument(
        "--quantization",
        choices=quantizations,
        nargs="+",
        default=["float32", "dynamic_int8"],
        help="of the preset",
    )
    stream.add_argument("--hop", type=_positive, nargs="+", default=[1.0, 0.25], metavar="SECONDS")
    stream.add_argument("--rate", type=positive_int, default=48_000, metavar="HZ")
    sharing.add_argument(
        "--hop", type=positive_int, nargs="+", default=[25, 32, 64, 100, 256, 512], metavar="FRAMES"
    )
    return parser.parse_args(argv)


def _positive(text: str) -> float:
    """Read a length."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be positive, not {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
