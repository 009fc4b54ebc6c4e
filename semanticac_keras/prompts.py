"""Prompts: the text of each label."""

import random
import string
from collections.abc import Sequence

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
    if isinstance(labels, str):
        raise ValueError(f"`labels` must be a sequence of names. Received: {labels!r}")
    if "{label}" not in prompt:
        raise ValueError(f"`prompt` must contain {{label}}. Received: {prompt!r}")
    labels = [label.strip() for label in labels]
    if not labels or not all(labels):
        raise ValueError(f"`labels` must have at least one name and no blanks. Received: {labels}")
    if len(set(labels)) != len(labels):
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        raise ValueError(f"`labels` must be distinct. Repeated: {repeated}")
    names = random_names(labels) if random_texts else labels
    return tuple(prompt.replace("{label}", name) for name in names)


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
