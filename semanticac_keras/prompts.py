"""Label texts: what the text encoder reads for a class."""

from collections.abc import Sequence

# The best of the three the paper compares (Table 4).
DEFAULT_PROMPT = "an audio clip of {label}"


def fill(prompt: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The prompt of each label.

    Args:
        prompt: text with one `{label}`.
        labels: class names, distinct and not empty.

    Raises:
        ValueError: if the prompt has no `{label}`, or the labels are empty or repeat.
    """
    if "{label}" not in prompt:
        raise ValueError(f"`prompt` must contain {{label}}. Received: {prompt!r}")
    labels = [label.strip() for label in labels]
    if not labels or not all(labels):
        raise ValueError(f"`labels` must hold at least one name and no blanks. Received: {labels}")
    if len(set(labels)) != len(labels):
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        raise ValueError(f"`labels` must be distinct. Repeated: {repeated}")
    return tuple(prompt.replace("{label}", label) for label in labels)
