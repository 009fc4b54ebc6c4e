"""The packaged model, used when no model is given."""

from importlib import resources
from pathlib import Path
from typing import NamedTuple

NAME = "esc10-small"

DIRECTORY = Path(str(resources.files("edge") / "models"))


class PackagedModel(NamedTuple):
    """The files of the packaged model, made by `training.reproduce`.

    Args:
        bundle: the model.
        settings: configuration file with the bundle's path and the decision settings tuned for
            it: defaults that every other setting overrides.
        thresholds: thresholds of its labels, tuned with those settings.
        card: model card: classes, training data and measured quality, in Markdown.
        figures: the card's figures and the training record, as JSON.
    """

    bundle: Path
    settings: Path
    thresholds: Path
    card: Path
    figures: Path

    @classmethod
    def at(cls, directory: Path, name: str) -> "PackagedModel":
        """The paths of a model's files in a directory, whether or not they exist."""
        endings = (".tflite", ".toml", ".thresholds.toml", ".md", ".json")
        return cls(*(directory / f"{name}{ending}" for ending in endings))


def packaged_model() -> PackagedModel | None:
    """The model of this installation; None if it has none, as in some checkouts."""
    model = PackagedModel.at(DIRECTORY, NAME)
    return model if model.bundle.is_file() else None


def is_packaged(path: Path) -> bool:
    """Whether a path is the packaged bundle."""
    model = packaged_model()
    return model is not None and path == model.bundle
