"""Model card of a packaged model in Markdown. All its figures come from measurements."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from training.release.credits import Credit
from training.runs.markdown import table


def write_card(name: str, figures: Mapping[str, Any], credits: Sequence[Credit]) -> str:
    """Return the text of the card.

    Args:
        name: of the model.
        figures: written by `training.reproduce`.
        credits: of all recordings in the training data.
    """
    bundle = figures["bundle"]
    lines = [
        f"# {name}",
        "",
        "Default model of `semanticac-edge`, used without `--model`. It recognises "
        f"{len(bundle['labels'])} sounds: {', '.join(bundle['labels'])}.",
        "",
        *_use(figures),
        *_limits(figures),
        *_false_accepts(figures),
        *_accuracy(figures),
        *_size(figures),
        *_making(figures),
        *_licence(name, figures, credits),
    ]
    return "\n".join(lines)


def _use(figures: Mapping[str, Any]) -> list[str]:
    decisions = figures["decisions"]
    rows = [(label, f"{value:g}") for label, value in decisions["thresholds"].items()]
    return [
        "## Decisions",
        "",
        "A sound is reported when the score of its label reaches the label's threshold. The score "
        f"is averaged over {decisions['smoothing_windows']} windows of "
        f"{figures['bundle']['window_seconds']:g} s, which start {decisions['hop_seconds']:g} s "
        f"apart. Windows below {decisions['gate_dbfs']:g} dBFS are not classified. These are the "
        "model's default settings; options override each of them.",
        "",
        *table(("label", "threshold"), rows),
        "",
    ]


def _limits(figures: Mapping[str, Any]) -> list[str]:
    return [
        "## Limits",
        "",
        f"- The model was trained on {len(figures['bundle']['labels'])} sounds only, with "
        f"{figures['data']['clips']} clips. {_other_sounds(figures)}",
        "- The clips are published recordings, mostly clear and close. Distant or noisy sounds and "
        "poor microphones were not measured.",
        "- The thresholds favour few false alarms: the model misses faint and short sounds. Tune "
        "them for your site with `semanticac-edge tune` and a recording made there.",
        "- The model is not an alarm system. Do not rely on it for anyone's safety.",
        "",
    ]


def _other_sounds(figures: Mapping[str, Any]) -> str:
    """Say what the model makes of a sound that it does not know."""
    if figures["bundle"].get("exclusive", True):
        return (
            "It has no class for other sounds, so it may report an unknown sound as a similar "
            "known one; see the false accepts below."
        )
    return (
        "It scores each label by itself: two sounds at once may be two events, and an unknown "
        "sound is none unless it resembles a known one; see the false accepts below."
    )


def _false_accepts(figures: Mapping[str, Any]) -> list[str]:
    others = figures["others"]
    chose, tested = others["chose"], others["tested"]
    low, high = tested["per_hour_interval"]
    rows = [(label, str(count)) for label, count in tested["events_by_label"].items()]
    return [
        "## False accepts",
        "",
        f"**{tested['per_hour']:.0f} per hour of uninterrupted unknown sounds**, 95 % confidence "
        f"interval {low:.0f} to {high:.0f}: {tested['events']} false events for "
        f"{tested['sounds']} sounds in {tested['hours']:.2f} h, {tested['per_sound']:.1%}.",
        "",
        "The test is deliberately hard: distinct sounds of 5 s each, one directly after another. A "
        "room is rarely that busy; the rate in a room depends on its sounds and was not measured. "
        "The sounds are clips of ESC-50 outside ESC-10 and were not used in training. One half, "
        f"{chose['sounds']} clips of {len(others['chose_by'])} categories, was used to choose the "
        f"thresholds, with at most {others['allowed_per_hour']:g} events per hour "
        f"({chose['events']} in {chose['hours']:.2f} h). The figures are for the other half; the "
        "halves share no category and no recording. The number of averaged windows and the rule "
        "for choosing thresholds were determined with an earlier model on both halves.",
        "",
        *table(("label", "false events"), [*rows, ("all", str(tested["events"]))]),
        "",
        f"Thresholds chosen on: {', '.join(others['chose_by'])}. "
        f"Tested on: {', '.join(others['tested_on'])}.",
        "",
    ]


def _accuracy(figures: Mapping[str, Any]) -> list[str]:
    lines = ["## Accuracy", ""]
    cross = figures["cross_validation"]
    if cross is None:
        return [
            *lines,
            "Unknown: no cross-validation of this recipe was provided. The model was trained on "
            "all clips, so none is left to test it on.",
            "",
        ]
    spread = "; ".join(
        f"seed {seed}: {', '.join(f'{100 * share:.1f}' for share in shares)}"
        for seed, shares in cross["accuracy_by_seed_and_fold"].items()
    )
    deviation = cross["std_over_seeds"]
    lines += [
        f"**{100 * cross['accuracy']:.1f} %** of held-out clips in {len(cross['folds'])}-fold "
        "cross-validation of the same recipe on the official folds"
        + (f", standard deviation over seeds {100 * deviation:.1f}" if deviation else "")
        + f" ({spread}). The packaged model was trained on all folds, so none is left to test it "
        "on; its results on training clips would not measure accuracy.",
        "",
        *table(
            ("label", "accuracy in %"),
            [(label, f"{100 * share:.1f}") for label, share in cross["per_class_accuracy"].items()],
        ),
        "",
        "```",
        shlex.join(cross["command"]),
        "```",
        "",
    ]
    return [*lines, *_recall(figures["held_out"], figures["held_out_windows"])]


def _recall(held_out: Mapping[str, Any] | None, windows: Mapping[str, Any]) -> list[str]:
    """Share of sounds that are reported at the thresholds."""
    if held_out is None:
        return [
            "In a single window over the complete held-out clip, the score of the correct label "
            f"reached its threshold for **{windows['found'] / windows['sounds']:.0%}** of the "
            f"clips ({windows['found']} of {windows['sounds']}), and that of another label for "
            f"{windows['wrong']}. A listener averages several windows and so reports fewer; their "
            "number was not measured because the cross-validation kept no models.",
            "",
        ]
    rows = [
        (label, f"{held_out['found_by_label'][label]} of {sounds}")
        for label, sounds in held_out["sounds_by_label"].items()
    ]
    share = held_out["found"] / held_out["sounds"]
    return [
        f"With the thresholds above, {held_out['models']} int8 models of the cross-validation "
        f"reported **{share:.0%}** of their held-out sounds "
        f"({held_out['found']} of {held_out['sounds']}, each alone in a quiet room). They reported "
        f"another label, additionally or instead, for {held_out['wrong']}.",
        "",
        *table(("label", "reported"), rows),
        "",
    ]


def _size(figures: Mapping[str, Any]) -> list[str]:
    bundle, speed = figures["bundle"], figures["speed"]
    parity = bundle["parity"]
    same = "label" if bundle.get("exclusive", True) else "labels"
    parameters = ", ".join(f"{part} {count:,}" for part, count in bundle["parameters"].items())
    return [
        "## Size and speed",
        "",
        f"{bundle['bytes']:,} bytes ({bundle['quantization']}). Parameters: {parameters}; the text "
        "encoder is not part of the bundle. The network takes "
        f"{speed['milliseconds']:.1f} ms of CPU time per window on one thread of: "
        f"{speed['processor']}. Compared with the floating-point model on {parity['clips']:.0f} "
        f"clips: smallest cosine of the embeddings {parity['min_cosine']:.4f}, same {same} for "
        f"{parity['same_label_share']:.1%}.",
        "",
    ]


def _making(figures: Mapping[str, Any]) -> list[str]:
    made, recipe = figures["made"], figures["recipe"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    training = figures["training"]
    return [
        "## Training",
        "",
        f"Preset `{recipe['preset']}`, {training['epochs']} epochs, seed {recipe['seed']}, "
        f"{recipe['precision']}; the complete recipe is in the bundle and in the JSON file beside "
        f"this card. Training speed: {training['training_clips_per_second']:.0f} clips/s.",
        "",
        "```",
        shlex.join(made["command"]),
        "```",
        "",
        f"Keras on {made['backend']}; Python {made['python']}, {versions}; revision "
        f"{made['git_revision'] or 'unknown'}. Data: SHA-256 of names, labels and samples "
        f"{figures['data']['sha256']}.",
        "",
    ]


def _licence(name: str, figures: Mapping[str, Any], credits: Sequence[Credit]) -> Iterator[str]:
    data = figures["data"]
    licences = sorted({credit.licence for credit in credits})
    counts = ", ".join(
        f"{sum(credit.licence == licence for credit in credits)} under {licence}"
        for licence in licences
    )
    yield from (
        "## Data, licence and attribution",
        "",
        f"{name} was trained on {data['dataset']}: {data['citation']} Dataset and model are "
        f"licensed under {figures['licence']}. Changes: the dataset's author cut the clips from "
        "the recordings below; the model's weights were trained on the clips.",
        "",
        f"The {len(credits)} recordings with their authors on Freesound ({counts}):",
        "",
    )
    for credit in credits:
        title = "".join(f"\\{char}" if char in "\\`*_[]<>|" else char for char in credit.title)
        author = credit.author.replace("_", "\\_")
        yield f"- [{title}]({credit.url}) by {author}, {credit.licence}"
    yield ""
