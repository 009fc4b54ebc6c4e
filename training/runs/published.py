"""Published accuracies by text alone, which stand beside one's own in reports."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

LABEL = "published, not reproduced here"


@dataclass(frozen=True)
class Published:
    """A published accuracy.

    Args:
        accuracy: percent, with its standard error if there is one.
        prompt: text around a label, or what is known of it.
        source: who measured it, as Markdown.
    """

    accuracy: str
    prompt: str
    source: str


_MILL = "https://pymill.com/docs/reproducibility"
_PROMPT = "This is a sound of {label}."

# By name of the weights and of the dataset.
PUBLISHED: Mapping[tuple[str, str], tuple[Published, ...]] = MappingProxyType(
    {
        ("clap-htsat-unfused", "esc50"): (
            Published("91.55 ± 0.62", _PROMPT, f"[Mill]({_MILL}/esc50)"),
            Published("94.76", "not stated", f"MAEB, as [Mill]({_MILL}/esc50) quotes it"),
        ),
        ("clap-htsat-unfused", "us8k"): (
            Published("75.16 ± 0.46", _PROMPT, f"[Mill]({_MILL}/urbansound8k)"),
        ),
    }
)
