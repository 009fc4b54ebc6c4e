"""Results of a training: metrics, predictions and the exported bundle."""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from edge import StreamingClassifier
from edge.types import FloatArray, IntArray
from semanticac_keras import ExportError, SemanticAC, export_tflite
from semanticac_keras.audio_tower import mean_by_owner
from semanticac_keras.export import Quantization
from training.datasets import AudioDataset
from training.datasets.cache import Embeddings
from training.datasets.split import Split
from training.runs.evaluation import Predictions
from training.runs.files import cannot_write, writing
from training.runs.plots import plot_stream
from training.runs.run import Row, Run, best_epoch, validated
from training.runs.tagging import predictions_of

_CHECKED_CLIPS = 16
_EXAMPLE_CLIPS = 6


def speed(history: Sequence[Row], clips_per_epoch: int) -> dict[str, Any]:
    """Return duration and speed. The speed is that of the median epoch, as the first one compiles.

    Args:
        history: one row per epoch.
        clips_per_epoch: number of clips trained on in each epoch.

    Returns:
        Entries for `metrics.json`; without the speed if no epoch was finished.
    """
    seconds = [row["seconds"] for row in history]
    figures = {"epochs": len(seconds), "training_seconds": sum(seconds)}
    if seconds:
        figures["training_clips_per_second"] = clips_per_epoch / float(np.median(seconds))
    return figures


def sizes(model: SemanticAC) -> dict[str, Any]:
    """Return the parameters of each part, and the paper's h, w, d and C."""
    tower = model.audio_tower
    return {
        "parameters": {
            "audio encoder": tower.encoder.count_params(),
            type(tower.head).__name__: tower.head.count_params(),
            model.text_encoder.name.replace("_", " "): model.text_encoder.count_params(),
        },
        "token_map": [*tower.encoder.output_grid, tower.encoder.output_dim],
        "embedding_dim": tower.embedding_dim,
    }


def test(
    model: SemanticAC,
    dataset: AudioDataset,
    split: Split,
    clips: Sequence[FloatArray],
    run: Run,
    embeddings: Embeddings | None,
) -> tuple[Predictions, dict[str, Any]]:
    """Evaluate the last epoch and, with a validation fold, the selected epoch.

    Args:
        model: model after the last epoch; left with the selected weights, if any.
        dataset: labelled clips.
        split: clips for training, validation and test.
        clips: waveforms of the test clips, in their order.
        run: run with the history and the selected weights.
        embeddings: a tagger's embeddings of the test clips, so that it need not hear them again;
            None computes what the model needs from `clips`.

    Returns:
        Predictions of the final weights, and entries for `metrics.json`.
    """
    names = tuple(dataset.clips[i].name for i in split.test)
    truth = dataset.truth(split.test)

    def predict() -> Predictions:
        if embeddings is None:
            scores = model.predict(clips, verbose=0)
        else:
            by_window = model.predict(embeddings.windows, verbose=0)
            scores = mean_by_owner(by_window, embeddings.owners, len(clips))
        return predictions_of(dataset.labels, names, truth, scores)

    evaluation = predict()
    key = evaluation.key
    figures: dict[str, Any] = {f"{key}_last_epoch": evaluation.quality}
    history = run.read_history()
    selected = None if split.validation_fold is None else best_epoch(history)
    if selected is not None:
        with warnings.catch_warnings():
            # Epochs of another phase of the training had another optimizer.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            model.load_weights(run.selected(selected))
        evaluation = predict()
        figures[f"{key}_selected_on_validation"] = evaluation.quality
        figures["validation"] = {
            "fold": split.validation_fold,
            "clips": len(split.validation),
            "epoch": selected,
            key: validated(history[selected - 1]),
        }
    return evaluation, {key: evaluation.quality, **figures}


def export(
    model: SemanticAC,
    dataset: AudioDataset,
    compared: Sequence[int] | IntArray,
    clips: Sequence[FloatArray],
    run: Run,
    receipt: dict[str, Any],
    quantization: Quantization,
) -> dict[str, Any]:
    """Write the bundle and, for the demo dataset, an example recording.

    Args:
        model: trained model.
        dataset: dataset of the training.
        compared: indices of the test clips, on which the bundle is compared with the model.
        clips: waveforms of them.
        run: run that receives the bundle.
        receipt: description of the training, for the bundle's contract.
        quantization: quantization of the bundle.

    Returns:
        The quantization and the parity figures, or the reason under `error`.

    Raises:
        RunError: if a file cannot be written.
    """
    bundle = run.directory / "model.tflite"
    try:
        contract = export_tflite(
            model,
            bundle,
            quantization,
            clips=clips[:_CHECKED_CLIPS],
            training=receipt,
            licence=dataset.licence,
        )
    except ExportError as error:
        return {"error": str(error)}
    except OSError as error:
        raise cannot_write(bundle, error) from error
    if dataset.name == "demo":
        _write_example(run.directory, clips, [dataset.text(dataset.clips[i]) for i in compared])
    return {"quantization": quantization, **contract.parity}


def _write_example(directory: Path, clips: Sequence[FloatArray], labels: Sequence[str]) -> None:
    """Write a recording of several held-out clips, and plot the bundle's scores along it."""
    classifier = StreamingClassifier(directory / "model.tflite", hop_seconds=0.25)
    rate_hz = classifier.front_end.sample_rate_hz
    chosen = range(0, len(clips), max(1, len(clips) // _EXAMPLE_CLIPS))[:_EXAMPLE_CLIPS]
    recording = np.concatenate([clips[i] for i in chosen])
    edges = np.cumsum([0, *(clips[i].size for i in chosen)]) / rate_hz
    sounds = [(labels[i], *span) for i, span in zip(chosen, pairwise(edges), strict=True)]
    with writing(directory / "example.wav") as temporary:
        soundfile.write(temporary, recording, rate_hz, subtype="PCM_16")
    results = classifier.push(recording) + classifier.flush()
    plot_stream(recording, classifier.front_end, sounds, results, directory / "example.png")
