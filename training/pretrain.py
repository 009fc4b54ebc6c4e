"""Pretrain on a corpus: `python -m training.pretrain --corpus DIR --teacher yamnet.tflite`."""

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from edge.config.options import CommandParser
from semanticac_keras import CheckpointError, presets
from semanticac_keras.tagger import Tagger, TaggerError
from training.corpus.reader import Corpus
from training.corpus.sources import CorpusError
from training.learning.interrupts import exiting_on_sigterm
from training.pretraining.learning import Plan, pretrain
from training.pretraining.teacher import compute_targets
from training.pretraining.texts import class_vectors
from training.runs.lock import locked
from training.runs.run import Run, RunError

_PROGRAM = "training.pretrain"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; `sys.argv`'s by default.

    Returns:
        Exit status: 0, 1 after an error at run time, 130 after an interrupt.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`.
    """
    arguments = _parser().parse_args(argv)
    try:
        with exiting_on_sigterm():
            _pretrain(arguments)
    except KeyboardInterrupt:
        print(f"{_PROGRAM}: interrupted; the same command with --resume continues", file=sys.stderr)
        return 130
    except (CheckpointError, CorpusError, RunError, TaggerError, OSError, ValueError) as error:
        print(f"{_PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _pretrain(arguments: argparse.Namespace) -> None:
    corpus = Corpus(arguments.corpus)
    teacher = Tagger(arguments.teacher, arguments.tagger_rate)
    names = _class_names(arguments.tagger_labels, teacher.num_scores)
    plan = Plan(
        preset=arguments.preset,
        epochs=arguments.epochs,
        steps_per_epoch=arguments.steps_per_epoch,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
    )
    run = Run(arguments.out)
    settings = {
        "plan": asdict(plan),
        "corpus": {"hours": corpus.hours, "may_ship": corpus.may_ship},
        "teacher": {"name": teacher.path.name, "sha256": teacher.sha256},
        "text_encoder": arguments.text_weights,
    }
    with locked(run.directory):
        if arguments.resume:
            run.check_resumable(settings)
        else:
            run.start(settings, _PROGRAM)
        front_end = presets.get(plan.preset).front_end
        targets = compute_targets(
            arguments.targets or run.directory / "targets", corpus, teacher, front_end, True
        )
        vectors, centre = class_vectors(names, arguments.text_weights)
        np.savez(run.directory / "texts.npz", names=names, vectors=vectors, centre=centre)
        student = pretrain(plan, corpus, targets, vectors, run)
        student.tower.save(run.directory / "tower.keras")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=f"python -m {_PROGRAM}",
        description="Train an audio tower on unlabelled recordings, by a tagger's scores and "
        "embeddings, in the space of a sentence encoder.",
    )
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="the corpus")
    parser.add_argument("--teacher", required=True, metavar="FILE", help="a .tflite tagger")
    parser.add_argument("--tagger-rate", type=int, default=16_000, metavar="HZ")
    parser.add_argument("--tagger-labels", type=Path, required=True, metavar="CSV")
    parser.add_argument("--text-weights", default="minilm", metavar="SRC")
    parser.add_argument("--targets", type=Path, metavar="DIR")
    parser.add_argument("--preset", choices=sorted(presets.PRESETS), default="small")
    for name in ("epochs", "steps_per_epoch", "batch_size", "learning_rate", "seed"):
        default = getattr(Plan(), name)
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(default), default=default)
    parser.add_argument("--out", type=Path, default=Path("runs/pretrained"), metavar="DIR")
    parser.add_argument("--resume", action="store_true")
    return parser


def _class_names(path: Path, expected: int) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        dialect = csv.Sniffer().sniff(file.readline() + file.readline(), delimiters=",\t")
        file.seek(0)
        names = [row["display_name"] for row in csv.DictReader(file, dialect=dialect)]
    if len(names) != expected:
        raise ValueError(f"{path} has {len(names)} class names; the tagger has {expected} scores.")
    return names


if __name__ == "__main__":
    sys.exit(main())
