"""One's own trained model: the model itself, and its weights as the start of another training."""

from collections.abc import Iterator
from pathlib import Path

import keras

from semanticac_keras import CheckpointError, ClassVectors, SemanticAC
from training.datasets import AudioDataset
from training.learning.recipes import CLAP
from training.runs.run import Run


def own_path(source: str) -> Path | None:
    """Return the path of one's own model, or None if the source is a published one.

    Args:
        source: a `.keras` file, a run directory, or anything else.
    """
    path = Path(source).expanduser()
    run = Run(path)
    is_run = any(file.exists() for file in (run.model, run.history, run.clips))
    return path if path.suffix == ".keras" or is_run else None


def is_clap(source: str) -> bool:
    """Return whether a source is a published model, or one's own that began as one.

    Args:
        source: as for `training.learning.trained_model.model_from`.
    """
    path = own_path(source)
    return path is None or run_of(path).preset == CLAP


def run_of(source: Path) -> Run:
    """Return the run of a model.

    Args:
        source: run directory, or a file in it.
    """
    return Run(source if source.is_dir() else source.parent)


def seen_clips(source: Path, dataset: AudioDataset) -> set[str]:
    """Return the names of the clips that a model was trained on, as far as its run lists them.

    Args:
        source: run directory, or a file in it.
        dataset: labelled clips; one of equal name and another size is another clip.
    """
    before = run_of(source).trained_on()
    return {
        name for name, entry in dataset.listing().items() if before.get(name, [])[2:] == entry[2:]
    }


def load_own_model(source: Path) -> SemanticAC:
    """Load a trained model, without its optimizer.

    Args:
        source: a `.keras` file, or a run directory that holds `model.keras`.

    Raises:
        CheckpointError: if there is no such file, or it holds another kind of model.
    """
    path = Run(source).model if source.is_dir() else source
    if not path.is_file():
        raise CheckpointError(
            f"{path} does not exist. `weights` must be a .keras file, or a run directory that "
            "holds model.keras (not one with --no-export)."
        )
    try:
        model = keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} cannot be read: {reason}") from error
    if not isinstance(model, SemanticAC):
        raise CheckpointError(f"{path} must hold a SemanticAC. Received: {type(model).__name__}")
    return model


def copy_weights(other: SemanticAC, model: SemanticAC, source: str) -> None:
    """Take over the weights of both towers, and bake the label embeddings.

    The logit scale and bias are taken over from a model that scores alike, exclusively or
    independently. The labels may differ. Learned class vectors (`texts="none"`) are taken over for
    equal labels only.

    Args:
        other: trained model.
        model: model that receives the weights.
        source: where the trained one is from, for messages.

    Raises:
        CheckpointError: if the model does not fit; names what differs.
    """
    if differences := list(_differences(other, model)):
        raise CheckpointError(f"{source} does not fit this model: {'; '.join(differences)}")
    for (_, theirs), (_, mine) in zip(_parts(other), _parts(model), strict=True):
        if not isinstance(mine, ClassVectors) or other.labels == model.labels:
            mine.set_weights(theirs.get_weights())
    if other.exclusive == model.exclusive:
        model.logit_scale.assign(other.logit_scale)
        if model.logit_bias is not None:
            model.logit_bias.assign(other.logit_bias)
    model.bake_labels()


def _parts(model: SemanticAC) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yield the parts with weights to take over, and their names in messages."""
    yield "audio encoder", model.audio_tower.encoder
    yield "head", model.audio_tower.head
    yield "text encoder", model.text_encoder


def _differences(theirs: SemanticAC, mine: SemanticAC) -> Iterator[str]:
    """Yield what keeps the weights of one model from fitting another."""
    if theirs.name != mine.name:
        yield f"its preset is {theirs.name!r}, here {mine.name!r}"
        return
    if theirs.front_end != mine.front_end:
        yield "its front end differs"
    for (name, one), (_, other) in zip(_parts(theirs), _parts(mine), strict=True):
        if type(one) is not type(other):
            yield f"its {name} is {type(one).__name__}, here {type(other).__name__}"
        elif not isinstance(one, ClassVectors):
            before, now = ([weight.shape for weight in part.weights] for part in (one, other))
            if before != now:
                yield f"its {name} has {_sizes(one)}, here {_sizes(other)}"


def _sizes(part: keras.layers.Layer) -> str:
    return f"{len(part.weights)} weights of {part.count_params():,} values"
