"""`semanticac-edge tune`: thresholds for a given rate of false accepts."""

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
from edge.commands.tuning.trials import hear_background, hear_positives
from edge.config.assembly import make_policy
from edge.config.options import SettingsError, flag
from edge.config.sections import add_flags, read_options
from edge.config.settings import DecisionSettings, ModelSettings, Settings, with_model
from edge.events.thresholds import write_thresholds
from edge.inference.streaming import StreamingClassifier

DESCRIPTION = (
    "Find the lowest threshold of each label at which background recordings, in which no label "
    "sounds, give at most the allowed number of events per hour over all labels. Write the "
    "thresholds to a file for `semanticac-edge --thresholds`. Use the listener's model and "
    "decisions."
)


@dataclass(frozen=True)
class TuneSettings:
    """Listener settings used while tuning."""

    model: ModelSettings
    decisions: DecisionSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser."""
    group = parser.add_argument_group("tuning", "Recordings and the allowed rate of false accepts.")
    group.add_argument(
        "--background",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="hours of recordings of the place in which no label sounds",
    )
    group.add_argument(
        "--positives",
        type=Path,
        metavar="DIR",
        help="recordings of the labels, to measure recall: one directory per label, or files "
        "whose names begin with the label",
    )
    group.add_argument(
        "--false-accepts-per-hour",
        type=_rate,
        required=True,
        metavar="RATE",
        help="events per hour that the background may give, over all labels",
    )
    group.add_argument(
        "--out",
        type=Path,
        default=Path("thresholds.toml"),
        metavar="FILE",
        help="file to write the thresholds to; default: thresholds.toml",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the listener's TOML file; its model and decisions are used",
    )
    add_flags(parser, TuneSettings)


def run(arguments: argparse.Namespace) -> int:
    """Tune, print curve and choice, and write the thresholds.

    Args:
        arguments: namespace of the parser that `add_arguments` extended.

    Returns:
        Exit status: 0, or 1 without writing a file if no thresholds are high enough.

    Raises:
        BundleError: if the bundle cannot be used.
        OSError: if a file cannot be read or written.
        SettingsError: if options conflict.
        SourceError: if a recording cannot be read.
        ValueError: if there are no positives, or no sound in the background.
    """
    for name in ("threshold", "thresholds"):
        if f"decisions.{name}" in vars(arguments):
            raise SettingsError(f"tune finds {flag(name)} itself: leave the option out")
    settings = read_options(TuneSettings, arguments, arguments.config, ignored_sections=Settings)
    settings = with_model(settings, arguments, ignored_sections=Settings)
    model = settings.model
    assert model.model is not None, "`with_model` refuses settings without a model"
    classifier = StreamingClassifier(
        model.model, model.hop, model.threads, settings.decisions.gate_dbfs
    )
    policy = make_policy(replace(settings.decisions, thresholds=None), classifier.hop_seconds)
    labels = classifier.labels
    positives: list[Positive] = []
    if arguments.positives is not None:
        positives, left_out = find_positives(arguments.positives, labels)
        if left_out:
            print(f"skipped, not a label of the model: {', '.join(left_out)}")

    background = hear_background(classifier, policy, arguments.background)
    recall = hear_positives(classifier, policy, positives, arguments.background[0])
    rate, hours = arguments.false_accepts_per_hour, background.hours
    steps = lowest_thresholds(background.counts, math.floor(rate * hours + 1e-9))

    print(f"background: {hours:.3g} h, {background.windows} windows", end="")
    print(f", {background.gated_windows} of them too quiet to classify")
    print(f"positives: {len(positives)}")
    print("\nthe same threshold for all labels:")
    print(format_table(curve(background, recall)))
    # An independent score follows from its label's cosine alone: a floor would add nothing.
    if recall.cosines.size and policy.cosine_floor is None and background.exclusive:
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
    chosen = (background.thresholds[step] for step in steps)
    thresholds = dict(zip(labels, chosen, strict=True))
    write_thresholds(arguments.out, thresholds, comments)
    print(f"written: {arguments.out}")
    return 0


def _options(arguments: argparse.Namespace) -> str:
    """Return the given flags of model and decisions that affect thresholds."""
    values = {
        name.partition(".")[2]: value for name, value in vars(arguments).items() if "." in name
    }
    if arguments.config is not None:
        values = {"config": arguments.config, **values}
    return " ".join(
        f"{flag(name)} {value}"
        for name, value in values.items()
        if name not in ("model", "threads", "report_unknown")
    )


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text}")
    return value
