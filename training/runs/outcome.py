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
from semanticac_keras.export import Quantization
from training.datasets import AudioDataset
from training.datasets.split import Split
from training.runs.evaluation import Evaluation
from training.runs.files import cannot_write, writing
from training.runs.plots import plot_stream
from training.runs.run import Row, Run, best_epoch

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
) -> tuple[Evaluation, dict[str, Any]]:
    """Evaluate the last epoch and, with a validation fold, the selected epoch.

    Args:
        model: model after the last epoch; left with the selected weights, if any.
        dataset: labelled clips.
        split: clips for training, validation and test.
        clips: waveforms of the test clips, in their order.
        run: run with the history and the selected weights.

    Returns:
        Predictions of the final weights, and entries for `metrics.json`.
    """
    held_out = [dataset.clips[i] for i in split.test]
    names = tuple(clip.name for clip in held_out)
    truth = np.array([clip.label for clip in held_out])

    def predict() -> Evaluation:
        return Evaluation(dataset.labels, names, truth, model.predict(clips, verbose=0))

    evaluation = predict()
    figures: dict[str, Any] = {"accuracy_last_epoch": evaluation.accuracy}
    history = run.read_history()
    selected = None if split.validation_fold is None else best_epoch(history)
    if selected is not None:
        with warnings.catch_warnings():
            # Epochs of another phase of the training had another optimizer.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            model.load_weights(run.selected(selected))
        evaluation = predict()
        figures["accuracy_selected_on_validation"] = evaluation.accuracy
        figures["validation"] = {
            "fold": split.validation_fold,
            "clips": len(split.validation),
            "epoch": selected,
            "accuracy": history[selected - 1]["val_accuracy"],
        }
    return evaluation, {"accuracy": evaluation.accuracy, **figures}


def export(
    model: SemanticAC,
    dataset: AudioDataset,
    clips: Sequence[FloatArray],
    truth: IntArray,
    run: Run,
    receipt: dict[str, Any],
    quantization: Quantization,
) -> dict[str, Any]:
    """Write the bundle and, for the demo dataset, an example recording.

    Args:
        model: trained model.
        dataset: dataset of the training.
        clips: waveforms of the test clips, on which the bundle is compared with the model.
        truth: label index of each of them, (clips,).
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
        _write_example(run.directory, clips, [dataset.labels[i] for i in truth])
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
