"""The command `semanticac-edge`: classify a file or a stream of samples."""

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from edge.bundle import BundleError
from edge.frontend import FloatArray
from edge.sinks.base import Sink
from edge.sinks.lines import JsonSink, TextSink
from edge.sources import SourceError, file_source, pcm_source
from edge.streaming import StreamingClassifier

_PROGRAM = "semanticac-edge"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; `sys.argv`'s by default.

    Returns:
        Exit status: 0, 1 after an error at run time, 130 after an interrupt.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`, `--version`.
    """
    arguments = _parse(argv)
    try:
        classifier = StreamingClassifier(arguments.model, arguments.hop, arguments.threads)
        source = _source(arguments, classifier.front_end.sample_rate_hz)
        sink = (JsonSink if arguments.json else TextSink)(sys.stdout, arguments.top)
        classify(source, classifier, sink)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _abandon_stdout()
        return 0
    except (BundleError, SourceError, ImportError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError):
            _abandon_stdout()
        print(f"{_PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def classify(source: Iterator[FloatArray], classifier: StreamingClassifier, sink: Sink) -> None:
    """Classify a source to its end; what it gave before an error or an interrupt counts too.

    Args:
        source: float32 chunks at the classifier's rate.
        classifier: at the start of a stream; it is reset at the end.
        sink: takes each classification as it comes.
    """
    try:
        for chunk in source:
            for classification in classifier.push(chunk):
                sink.window(classification)
    finally:
        for classification in classifier.flush():
            sink.window(classification)


def _source(arguments: argparse.Namespace, sample_rate_hz: int) -> Iterator[FloatArray]:
    if arguments.file is not None:
        return file_source(arguments.file, sample_rate_hz)
    return pcm_source(
        sys.stdin.buffer,
        sample_rate_hz,
        arguments.rate,
        arguments.channels or 1,
        arguments.format or "s16le",
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog=_PROGRAM,
        description="Classify sound on a small device. Results go to stdout, one line a window.",
    )
    parser.add_argument("--version", action="version", version=f"{_PROGRAM} {_version()}")

    source = parser.add_argument_group("source").add_mutually_exclusive_group(required=True)
    source.add_argument("--file", metavar="PATH", help="a recording: WAV, FLAC, OGG, MP3, ...")
    source.add_argument("--stdin", action="store_true", help="raw samples from a pipe")
    pcm = parser.add_argument_group("raw samples, with --stdin")
    pcm.add_argument("--rate", type=_positive_int, metavar="HZ", help="their sample rate")
    pcm.add_argument("--channels", type=_positive_int, metavar="N", help="default: 1")
    pcm.add_argument("--format", choices=("s16le", "f32le"), help="default: s16le")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        metavar="PATH",
        default=os.environ.get("SEMANTICAC_MODEL"),
        help="the .tflite bundle; default: $SEMANTICAC_MODEL",
    )
    model.add_argument(
        "--hop",
        type=_positive_float,
        metavar="SECONDS",
        default=1.0,
        help="time between the starts of two windows; default: 1.0",
    )
    model.add_argument(
        "--threads", type=_positive_int, metavar="N", default=1, help="CPU threads; default: 1"
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "--top", type=_positive_int, metavar="N", default=3, help="labels a line; default: 3"
    )
    output.add_argument("--json", action="store_true", help="JSON lines instead of text")

    arguments = parser.parse_args(argv)
    if not arguments.model:
        parser.error("give the bundle with --model, or its path in SEMANTICAC_MODEL")
    if arguments.stdin and arguments.rate is None:
        parser.error("--stdin needs --rate")
    for option in ("rate", "channels", "format"):
        if not arguments.stdin and getattr(arguments, option) is not None:
            parser.error(f"--{option} goes with --stdin; a file has its own")
    return arguments


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of the usage and a line."""
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text}")
    return value


def _version() -> str:
    try:
        return importlib.metadata.version("semanticac-keras")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _abandon_stdout() -> None:
    """Keep the interpreter from failing again on lines that nobody takes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
