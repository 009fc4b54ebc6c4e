"""The card of a shipped model, in Markdown: every figure in it comes from the measurements."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from training.release.credits import Credit
from training.runs.markdown import table


def write_card(name: str, figures: Mapping[str, Any], credits: Sequence[Credit]) -> str:
    """The text of the card.

    Args:
        name: of the model.
        figures: what `training.reproduce` has measured.
        credits: of all recordings that it was trained on.
    """
    bundle = figures["bundle"]
    lines = [
        f"# {name}",
        "",
        "The model that `semanticac-edge` listens with where no `--model` is given. It knows "
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
        "A sound is reported once the score of its label, the mean over "
        f"{decisions['smoothing_windows']} windows that begin {decisions['hop_seconds']:g} s apart "
        f"and last {figures['bundle']['window_seconds']:g} s, has reached the label's threshold. "
        f"Windows below {decisions['gate_dbfs']:g} dBFS are not classified. These settings come "
        "with the model; every one of them can be changed by an option.",
        "",
        *table(("label", "threshold"), rows),
        "",
    ]


def _limits(figures: Mapping[str, Any]) -> list[str]:
    return [
        "## Limits",
        "",
        f"- It has learned {len(figures['bundle']['labels'])} sounds and nothing else, from "
        f"{figures['data']['clips']} clips. It has no class for other sounds: a new kind of sound "
        "that resembles one it knows may be reported as that one; see the false accepts below.",
        "- The clips are of people who publish their recordings, mostly clear and near. Sounds far "
        "away, under noise, or through a poor microphone were not measured.",
        "- The thresholds prefer silence to a false alarm: it misses sounds that are faint or "
        "short. Tune them for your place with `semanticac-edge tune` and a recording of it.",
        "- It is no alarm. Do not trust it with anyone's safety.",
        "",
    ]


def _false_accepts(figures: Mapping[str, Any]) -> list[str]:
    others = figures["others"]
    chose, tested = others["chose"], others["tested"]
    low, high = tested["per_hour_interval"]
    rows = [(label, str(count)) for label, count in tested["events_by_label"].items()]
    return [
        "## False accepts",
        "",
        f"**{tested['per_hour']:.0f} an hour of foreign sounds without a pause**, 95 % confidence "
        f"interval {low:.0f} to {high:.0f}: {tested['events']} false events for "
        f"{tested['sounds']} sounds in {tested['hours']:.2f} h, {tested['per_sound']:.1%}.",
        "",
        "This is hard on purpose: one distinct sound after the other, 5 s each, as no room has "
        "them all hour; what a room gives depends on its sounds, and was not measured. The sounds "
        "are clips of ESC-50 that are not of ESC-10, and nothing was trained on them. One half, "
        f"{chose['sounds']} clips of {len(others['chose_by'])} kinds, chose the thresholds, by at "
        f"most {others['allowed_per_hour']:g} events an hour ({chose['events']} in "
        f"{chose['hours']:.2f} h). The figures are of the other half; no kind of sound and no "
        "recording is in both. How many windows the mean is over, and the rule by which thresholds "
        "are chosen, were decided with an earlier model on both halves.",
        "",
        *table(("label", "false events"), [*rows, ("all", str(tested["events"]))]),
        "",
        f"Chosen by: {', '.join(others['chose_by'])}. Tested on: {', '.join(others['tested_on'])}.",
        "",
    ]


def _accuracy(figures: Mapping[str, Any]) -> list[str]:
    lines = ["## Accuracy", ""]
    cross = figures["cross_validation"]
    if cross is None:
        return [
            *lines,
            "Not known: no cross-validation of this recipe was given. The model itself was trained "
            "on all clips, so that it has no clip left that could tell.",
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
        + f" ({spread}). The shipped model was trained on all folds, so that none is left to test "
        "it; what it says of its own training clips is no accuracy.",
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
    return [*lines, *_heard(figures["held_out"], figures["held_out_windows"])]


def _heard(held_out: Mapping[str, Any] | None, windows: Mapping[str, Any]) -> list[str]:
    """How many sounds give an event at the thresholds."""
    if held_out is None:
        return [
            f"In one window that holds all of a held-out clip, the label's score reaches its "
            f"threshold for **{windows['found'] / windows['sounds']:.0%}** of them "
            f"({windows['found']} of {windows['sounds']}), and another label's for "
            f"{windows['wrong']}. A listener needs the mean of several windows to be as high, so "
            "that it reports fewer; how many was not measured, as the cross-validation kept no "
            "models.",
            "",
        ]
    rows = [
        (label, f"{held_out['found_by_label'][label]} of {sounds}")
        for label, sounds in held_out["sounds_by_label"].items()
    ]
    share = held_out["found"] / held_out["sounds"]
    return [
        f"With the thresholds above, {held_out['models']} models of the cross-validation, int8, "
        f"reported **{share:.0%}** of the sounds that they had not heard before "
        f"({held_out['found']} of {held_out['sounds']}, each alone in a quiet room), and another "
        f"label too or in its place for {held_out['wrong']}.",
        "",
        *table(("label", "reported"), rows),
        "",
    ]


def _size(figures: Mapping[str, Any]) -> list[str]:
    bundle, speed = figures["bundle"], figures["speed"]
    parity = bundle["parity"]
    parameters = ", ".join(f"{part} {count:,}" for part, count in bundle["parameters"].items())
    return [
        "## Size and speed",
        "",
        f"{bundle['bytes']:,} bytes ({bundle['quantization']}). Parameters: {parameters}; the text "
        "encoder does not travel. A window takes "
        f"{speed['milliseconds']:.1f} ms of CPU time in the network, on one thread of: "
        f"{speed['processor']}. Against the model in floating point on {parity['clips']:.0f} "
        f"clips: smallest cosine of the embeddings {parity['min_cosine']:.4f}, same label for "
        f"{parity['same_label_share']:.1%}.",
        "",
    ]


def _making(figures: Mapping[str, Any]) -> list[str]:
    made, recipe = figures["made"], figures["recipe"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    training = figures["training"]
    return [
        "## Making",
        "",
        f"Preset `{recipe['preset']}`, {training['epochs']} epochs, seed {recipe['seed']}, "
        f"{recipe['precision']}; the whole recipe is in the bundle and in the figures beside this "
        f"card. It was trained at {training['training_clips_per_second']:.0f} clips/s.",
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
        f"{name} is made from {data['dataset']}: {data['citation']} The dataset is under "
        f"{figures['licence']}, and so is the model. Changed: the clips were cut by the dataset's "
        "author from the recordings below; here they became weights.",
        "",
        f"The {len(credits)} recordings, by their authors at Freesound ({counts}):",
        "",
    )
    for credit in credits:
        title = "".join(f"\\{char}" if char in "\\`*_[]<>|" else char for char in credit.title)
        author = credit.author.replace("_", "\\_")
        yield f"- [{title}]({credit.url}) by {author}, {credit.licence}"
    yield ""
