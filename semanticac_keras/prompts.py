"""Prompts: the texts of the labels."""

import random
import string
from collections.abc import Mapping, Sequence

# Texts in place of labels' names, by label: one or several.
LabelTexts = Mapping[str, str | Sequence[str]]

# The best of the three prompts that the paper compares (Table 4).
DEFAULT_PROMPT = "an audio clip of {label}"
# The one of Hugging Face's pipeline for CLAP.
CLAP_PROMPT = "This is a sound of {label}."

# Single letters could not name all of 36 labels such as ten digits and 26 letters.
_MIN_RANDOM_LENGTH = 3


def fill(prompt: str, labels: Sequence[str], random_texts: bool = False) -> tuple[str, ...]:
    """Fill each label into the prompt.

    Args:
        prompt: text with `{label}`.
        labels: class names, distinct and not empty.
        random_texts: fill in the labels' `random_names` instead.

    Returns:
        One text per label.

    Raises:
        ValueError: if the prompt has no `{label}`, or the labels are one string, or missing, blank
            or repeated.
    """
    names = _checked(labels)
    if "{label}" not in prompt:
        raise ValueError(f"`prompt` must contain {{label}}. Received: {prompt!r}")
    names = random_names(names) if random_texts else names
    return tuple(prompt.replace("{label}", name) for name in names)


def texts_by_label(
    labels: Sequence[str], label_texts: LabelTexts | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the texts to fill into the prompt for each label: its name if it has no others.

    Args:
        labels: class names, distinct and not empty.
        label_texts: one text, or several, for some of the labels.

    Raises:
        ValueError: if the labels are invalid, or `label_texts` has another label, something else
            than texts, or a text twice.
    """
    names, given = _checked(labels), label_texts or {}
    if unknown := [label for label in given if label not in names]:
        raise ValueError(
            f"`label_texts` must be of the labels {', '.join(names)}. "
            f"Received: {', '.join(map(str, unknown))}"
        )
    texts = {}
    for name in names:
        value = given.get(name, name)
        values = [value] if isinstance(value, str) else value
        if not (isinstance(values, list | tuple) and values and all(map(_is_text, values))):
            raise ValueError(
                "`label_texts` must have one text, or a list of texts, for a label. "
                f"Received: {name} = {value!r}"
            )
        texts[name] = tuple(text.strip() for text in values)
    every = [text for group in texts.values() for text in group]
    if repeated := sorted({text for text in every if every.count(text) > 1}):
        raise ValueError(f"`label_texts` must have each text once. Repeated: {', '.join(repeated)}")
    return texts


def _checked(labels: Sequence[str]) -> list[str]:
    """Return the labels without spaces around them, or refuse them."""
    if isinstance(labels, str):
        raise ValueError(f"`labels` must be a sequence of names. Received: {labels!r}")
    names = [label.strip() for label in labels]
    if not names or not all(names):
        raise ValueError(f"`labels` must have at least one name and no blanks. Received: {names}")
    if len(set(names)) != len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"`labels` must be distinct. Repeated: {repeated}")
    return names


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def random_names(labels: Sequence[str]) -> list[str]:
    """Replace the letters of each label by random ones, so that the names carry no meaning.

    A name depends on its label alone, unless an earlier label has the same name by chance.

    Args:
        labels: class names, distinct.

    Returns:
        Distinct names of lower-case letters, with the labels' lengths and spaces, but at least
        three characters each.
    """
    names: list[str] = []
    for label in labels:
        letters = random.Random(label)
        name = ""
        while not name or name in names:
            name = "".join(
                " " if character == " " else letters.choice(string.ascii_lowercase)
                for character in label.ljust(_MIN_RANDOM_LENGTH, "x")
            )
        names.append(name)
    return names
