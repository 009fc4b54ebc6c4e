"""`semanticac-edge tune`: thresholds for a rate of false alarms that one can live with."""

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path

from edge.commands.tuning.choice import lowest_thresholds
from edge.commands.tuning.positives import Positive, find_positives
from edge.commands.tuning.report import (
    choice,
    cosine_hint,
    curve,
    events_at,
    format_table,
    too_many,
    worth,
)
from edge.commands.tuning.sweep import THRESHOLDS
from edge.commands.tuning.trials import hear_background, hear_positives
from edge.config.assembly import make_policy
from edge.config.options import SettingsError, flag
from edge.config.sections import add_flags, read_options
from edge.config.settings import DecisionSettings, ModelSettings, Settings, with_model
from edge.events.thresholds import write_thresholds
from edge.inference.streaming import StreamingClassifier

DESCRIPTION = (
    "Find the lowest threshold for each label at which a background without any of them gives no "
    "more events an hour than allowed, all labels together, and write them to a file for "
    "`semanticac-edge --thresholds`. Model and decisions must be those of the listener."
)


@dataclass(frozen=True)
class TuneSettings:
    """What the listener will have, too."""

    model: ModelSettings
    decisions: DecisionSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    group = parser.add_argument_group("tuning", "What may go wrong how often.")
    group.add_argument(
        "--background",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="recordings of the place, hours of them, in which no label sounds",
    )
    group.add_argument(
        "--positives",
        type=Path,
        metavar="DIR",
        help="recordings of the labels, to see what is missed: a directory for each, or files "
        "whose names begin with it",
    )
    group.add_argument(
        "--false-accepts-per-hour",
        type=_rate,
        required=True,
        metavar="RATE",
        help="events an hour that the background may give, all labels together",
    )
    group.add_argument(
        "--out",
        type=Path,
        default=Path("thresholds.toml"),
        metavar="FILE",
        help="where the thresholds go; default: thresholds.toml",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the listener's TOML file, for its model and decisions",
    )
    add_flags(parser, TuneSettings)


def run(arguments: argparse.Namespace) -> int:
    """Tune, print the curve and the choice, and write the thresholds.

    Args:
        arguments: as `add_arguments`' parser read them.

    Returns:
        Exit status: 0, or 1 if no thresholds are high enough; nothing is written then.

    Raises:
        BundleError: if the bundle cannot be used.
        OSError: if a file cannot be read or written.
        SettingsError: if the options do not fit together.
        SourceError: if a recording cannot be read.
        ValueError: if there are no positives, or no sound in the background.
    """
    for name in ("threshold", "thresholds"):
        if f"decisions.{name}" in vars(arguments):
            raise SettingsError(f"{flag(name)} is what tune finds: leave it out")
    settings = read_options(TuneSettings, arguments, arguments.config, ignored_sections=Settings)
    settings = with_model(settings, arguments, ignored_sections=Settings)
    model = settings.model
    policy = make_policy(replace(settings.decisions, thresholds=None))
    assert model.model is not None, "settings without a model are refused"
    classifier = StreamingClassifier(
        model.model, model.hop, model.threads, settings.decisions.gate_dbfs
    )
    labels = classifier.labels
    positives: list[Positive] = []
    if arguments.positives is not None:
        positives, left_out = find_positives(arguments.positives, labels)
        if left_out:
            print(f"left out, as no label is called so: {', '.join(left_out)}")

    background = hear_background(classifier, policy, arguments.background)
    recall = hear_positives(classifier, policy, positives, arguments.background[0])
    rate, hours = arguments.false_accepts_per_hour, background.hours
    steps = lowest_thresholds(background.counts, math.floor(rate * hours + 1e-9))

    print(f"background: {hours:.3g} h, {background.windows} windows", end="")
    print(f", {background.gated_windows} of them too quiet to classify")
    print(f"positives: {len(positives)}")
    print("\nthe same threshold for all labels:")
    print(format_table(curve(background, recall)))
    if recall.cosines.size and policy.cosine_floor is None:
        print(f"\n{cosine_hint(background, recall)}")
    if steps is None:
        print(f"\n{too_many(background, labels, rate)}")
        return 1
    print(f"\nthe lowest thresholds for {rate:g} false accepts an hour:")
    print(format_table(choice(background, recall, labels, steps)))
    print(f"\n{worth(int(events_at(background, steps).sum()), hours, rate)}")
    comments = [
        f"For {rate:g} false accepts an hour in all, found on {hours:.3g} h of background with",
        f"{model.model.name} {_options(arguments)}".rstrip() + ": other options need other values.",
    ]
    thresholds = {label: THRESHOLDS[step] for label, step in zip(labels, steps, strict=True)}
    write_thresholds(arguments.out, thresholds, comments)
    print(f"written: {arguments.out}")
    return 0


def _options(arguments: argparse.Namespace) -> str:
    """The flags of model and decisions that were given and matter."""
    given = {
        name.partition(".")[2]: value for name, value in vars(arguments).items() if "." in name
    }
    if arguments.config is not None:
        given = {"config": arguments.config, **given}
    return " ".join(
        f"{flag(name)} {value}"
        for name, value in given.items()
        if name not in ("model", "threads", "report_unknown")
    )


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text}")
    return value
