"""Build a corpus of free sounds: `python -m training.corpus build --out DIR`."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.config.options import CommandParser
from semanticac_keras.download import DownloadError
from semanticac_keras.tagger import TaggerError
from training.corpus.building import Plan, build, summary
from training.corpus.fetching import DEBIAN_MIRROR
from training.corpus.reader import Corpus
from training.corpus.sources import MANIFEST, CorpusError, read_sources

_PROGRAM = "training.corpus"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; `sys.argv`'s by default.

    Returns:
        Exit status: 0, also with sources that could not be used; 1 after an error; 130 after an
        interrupt.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`.
    """
    arguments = _parser().parse_args(argv)
    try:
        failures = build(_plan(arguments), progress=True)
        corpus = Corpus(arguments.out)
        for line in summary(arguments.out, corpus.recordings):
            print(line)
        for line in failures:
            print(f"{_PROGRAM}: warning: {line}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{_PROGRAM}: interrupted; run the command again to continue", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"{_PROGRAM}: error: {_reason(error, arguments.out)}", file=sys.stderr)
        return 1
    except (CorpusError, DownloadError, TaggerError) as error:
        print(f"{_PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    """Return what the options ask for."""
    sources = read_sources(arguments.sources)
    if arguments.only:
        if unknown := set(arguments.only) - {source.name for source in sources}:
            raise CorpusError(f"{arguments.sources} has no source {sorted(unknown)[0]}.")
        sources = tuple(source for source in sources if source.name in arguments.only)
    return Plan(
        sources,
        arguments.out,
        all_sources=arguments.all_sources,
        exclude_clips=arguments.exclude_clips,
        tagger=arguments.tagger,
        shares={"music": arguments.music_share, "speech": arguments.speech_share},
        debian_mirror=arguments.debian_mirror,
        workers=arguments.workers,
    )


def _reason(error: OSError, out: Path) -> str:
    """Return a one-line message for a file that cannot be written."""
    if error.errno == errno.ENOSPC:
        return (
            f"The disk is full: {out} needs more space ({error.strerror}). Free some and run the "
            "command again; it continues."
        )
    return f"{error.filename or out} cannot be used: {error.strerror or error}."


def _share(text: str) -> float:
    """Parse a share of the hours."""
    value = float(text)
    if not 0.0 <= value < 0.5:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 0.5. Received: {text}")
    return value


def _count(text: str) -> int:
    """Parse a positive number of threads."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1. Received: {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = CommandParser(
        prog=f"python -m {_PROGRAM}",
        description="A corpus of free sounds, to pretrain on.",
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=CommandParser)
    command = commands.add_parser(
        "build", help="fetch and decode the sources, and write 16-bit samples at 32 kHz"
    )
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="directory of the corpus"
    )
    command.add_argument(
        "--sources", type=Path, default=MANIFEST, metavar="FILE", help="another manifest (TOML)"
    )
    command.add_argument(
        "--only", nargs="+", metavar="NAME", help="use only these sources of the manifest"
    )
    command.add_argument(
        "--all-sources",
        action="store_true",
        help="use also sources whose licence does not let weights ship",
    )
    command.add_argument(
        "--exclude-clips",
        type=Path,
        nargs="+",
        default=(),
        metavar="DIR",
        help="folders of clips, such as ESC-50's, that no recording may hold",
    )
    command.add_argument(
        "--tagger",
        type=Path,
        metavar="FILE",
        help="a .tflite tagger with AudioSet's classes, which finds music and speech",
    )
    for kind in ("music", "speech"):
        command.add_argument(
            f"--{kind}-share",
            type=_share,
            default=0.15,
            metavar="SHARE",
            help=f"largest share of {kind} in the hours (default: 0.15)",
        )
    command.add_argument(
        "--debian-mirror", default=DEBIAN_MIRROR, metavar="URL", help="default: %(default)s"
    )
    command.add_argument(
        "--workers",
        type=_count,
        default=os.cpu_count() or 1,
        metavar="N",
        help="threads that decode (default: one per core)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
