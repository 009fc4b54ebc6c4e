"""Pretrain on a corpus: `python -m training.pretrain --corpus DIR --teacher yamnet.tflite`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edge.config.options import CommandParser, flag
from edge.inference.frontend import FrontEnd
from semanticac_keras import presets, read_class_names
from semanticac_keras.checkpoints.registry import is_tagger, resolve
from semanticac_keras.class_names import read_names
from semanticac_keras.tagger import Tagger
from training.corpus.reader import Corpus
from training.datasets import load_dataset
from training.learning.interrupts import exiting_on_sigterm
from training.learning.options import add_tagger_rate
from training.pretraining.clap_teacher import ClapTeacher
from training.pretraining.learning import Plan, pretrain, weights_of
from training.pretraining.teacher import Targets, Teacher, compute_targets
from training.pretraining.texts import text_space
from training.runs.commands import status_of
from training.runs.lock import locked
from training.runs.probing import check_available
from training.runs.run import Run

_PROGRAM = "training.pretrain"
# Fields of the plan that are options, and their help.
_NUMBERS = {
    "epochs": "number of epochs, each of which ends with a checkpoint",
    "steps_per_epoch": "steps of an epoch",
    "batch_size": "windows in a step",
    "learning_rate": "highest learning rate",
    "seed": "seed of the weights and of every draw",
}


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
    with exiting_on_sigterm():
        return status_of(
            _PROGRAM, lambda: _pretrain(arguments), "the same command with --resume continues"
        )


def _pretrain(arguments: argparse.Namespace) -> None:
    corpus = Corpus(arguments.corpus)
    front_end = presets.get(arguments.preset).front_end
    teachers, names = _teachers(arguments, front_end)
    # Before the teacher hears anything, which takes long: the encoder may not be available.
    space = text_space(names, arguments.text_weights)
    plan = Plan(
        preset=arguments.preset,
        epochs=arguments.epochs,
        steps_per_epoch=arguments.steps_per_epoch,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
    )
    labelled = None
    if arguments.judge_on is not None:
        check_available()
        labelled = load_dataset("folder", arguments.judge_on)
    run = Run(arguments.out)
    settings = {
        "plan": asdict(plan),
        "corpus": {"hours": corpus.hours, "may_ship": corpus.may_ship},
        "teacher": _about(teachers[0]),
        **({"more_teachers": [_about(each) for each in teachers[1:]]} if teachers[1:] else {}),
        "text_encoder": arguments.text_weights,
        "judge_on": arguments.judge_on and str(arguments.judge_on),
    }
    with locked(run.directory):
        if arguments.resume:
            run.check_resumable(settings)
        else:
            run.start(settings, _PROGRAM)
        directory = arguments.targets or run.directory / "targets"
        targets: list[Targets] = []
        for teacher in teachers:
            unit_frames = targets[-1].grid.hop_frames if targets else 1
            own = directory / teacher.name if len(teachers) > 1 else directory
            targets.append(compute_targets(own, corpus, teacher, front_end, True, unit_frames))
        pretrain(plan, corpus, targets, space, run, settings, labelled)
        print(f"pretrained weights: {weights_of(run)}")


def _teachers(
    arguments: argparse.Namespace, front_end: FrontEnd
) -> tuple[list[Teacher], tuple[str, ...]]:
    """Return the teachers, those with the shortest windows first, and the names of their classes.

    Raises:
        CheckpointError: if a teacher is not available.
        ValueError: if the teachers have different classes, or there is no list of names for a CLAP.
    """
    names: tuple[str, ...] | None = None
    taggers: list[Tagger] = []
    for source in filter(is_tagger, arguments.teacher):
        tagger = Tagger(resolve(source), arguments.tagger_rate)
        found = read_class_names(tagger, arguments.tagger_labels)
        if names is not None and found != names:
            raise ValueError(
                f"all teachers must have the same classes. Received: {taggers[0].name} and "
                f"{tagger.name}, which differ"
            )
        names = found
        taggers.append(tagger)
    if names is None and arguments.tagger_labels is None:
        raise ValueError("a CLAP alone needs names of classes to score: add --tagger-labels")
    names = names or read_names(arguments.tagger_labels)
    claps = [
        ClapTeacher(source, names, front_end.window_seconds)
        for source in arguments.teacher
        if not is_tagger(source)
    ]
    teachers: list[Teacher] = [*taggers, *claps]
    if len({teacher.name for teacher in teachers}) < len(teachers):
        raise ValueError("the teachers' files must have different names")
    teachers.sort(key=lambda teacher: teacher.window_samples / teacher.sample_rate_hz)
    return teachers, names


def _about(teacher: Teacher) -> dict[str, str]:
    return {"name": teacher.name, "sha256": teacher.sha256}


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=f"python -m {_PROGRAM}",
        description="Train an audio tower on unlabelled recordings, by the scores and "
        "embeddings of taggers or CLAPs, in the space of a sentence encoder.",
    )
    parser.add_argument(
        "--corpus", type=Path, required=True, metavar="DIR", help="see training.corpus"
    )
    parser.add_argument(
        "--teacher",
        required=True,
        nargs="+",
        metavar="SRC",
        help="path of a .tflite tagger, or yamnet; path or name of a published CLAP; or several of "
        "them, with the same classes. Each hears every recording once",
    )
    add_tagger_rate(parser)
    parser.add_argument(
        "--tagger-labels",
        type=Path,
        metavar="FILE",
        help="names of the teachers' classes, such as yamnet_class_map.csv; default: the list in "
        "the tagger's file",
    )
    parser.add_argument(
        "--text-weights",
        default="minilm",
        metavar="SRC",
        help="path or name of the sentence encoder of the names; default: minilm",
    )
    parser.add_argument(
        "--targets",
        type=Path,
        metavar="DIR",
        help="directory of what the teachers heard, to share between runs; default: targets/ in "
        "the run",
    )
    parser.add_argument(
        "--judge-on",
        type=Path,
        metavar="DIR",
        help="labelled recordings that are not in the corpus, as for --dataset folder; the weights "
        "of the epoch are kept whose features are the best for them",
    )
    parser.add_argument(
        "--preset",
        choices=sorted(presets.PRESETS),
        default=Plan().preset,
        help="size of the student; default: small",
    )
    for name, text in _NUMBERS.items():
        default = getattr(Plan(), name)
        parser.add_argument(
            flag(name), type=type(default), default=default, help=f"{text}; default: {default}"
        )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/pretrained"),
        metavar="DIR",
        help="run directory; default: runs/pretrained",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the run after its last saved epoch"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
