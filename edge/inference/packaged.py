"""The model that comes with the package, for those who name none."""

from importlib import resources
from pathlib import Path
from typing import NamedTuple

NAME = "esc10-small"

DIRECTORY = Path(str(resources.files("edge") / "models"))


class PackagedModel(NamedTuple):
    """Its files; `training.reproduce` makes them.

    Args:
        bundle: the model.
        settings: where the bundle is, and the decisions that fit it, as a configuration file: they
            count where nothing else is given.
        thresholds: of its labels, with those decisions.
        card: what it hears, what it was made of, how good it is, in Markdown.
        figures: the card's figures, and the receipt of the training, as JSON.
    """

    bundle: Path
    settings: Path
    thresholds: Path
    card: Path
    figures: Path

    @classmethod
    def at(cls, directory: Path, name: str) -> "PackagedModel":
        """The files of that name in a directory, whether or not they are there."""
        endings = (".tflite", ".toml", ".thresholds.toml", ".md", ".json")
        return cls(*(directory / f"{name}{ending}" for ending in endings))


def packaged_model() -> PackagedModel | None:
    """The model of this installation; None where it has none, as a checkout may."""
    model = PackagedModel.at(DIRECTORY, NAME)
    return model if model.bundle.is_file() else None


def is_packaged(path: Path) -> bool:
    """Whether a bundle is the packaged one."""
    model = packaged_model()
    return model is not None and path == model.bundle
