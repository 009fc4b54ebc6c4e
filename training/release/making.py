"""Training on all clips and export of the bundle to package."""

import hashlib
import json
from typing import Any

import keras

from edge.inference.packaged import PackagedModel
from semanticac_keras import export_tflite
from training.datasets import AudioDataset, Clip
from training.datasets.base import map_files
from training.datasets.split import Split
from training.learning.model import Weights, build_model
from training.learning.trainer import Job, learn
from training.release.shipment import Shipment
from training.runs import outcome
from training.runs.run import Run, RunError, portable, provenance, write_json

PROGRAM = "training.reproduce"
_RATE_HZ = 44_100
_COMPARED_CLIPS = 40


def make_bundle(shipment: Shipment, dataset: AudioDataset, run: Run) -> dict[str, Any]:
    """Train and export, or reuse or resume a run with the same settings.

    Args:
        shipment: model to train.
        dataset: training data; all clips are used.
        run: output directory. The bundle is named after the shipment.

    Returns:
        Figures of data, training and bundle.

    Raises:
        ExportError: if the bundle disagrees with the model.
        KeyboardInterrupt: if the training was interrupted; it can be resumed.
        RunError: if the run was started with other settings, or the bundle is too large.
    """
    recipe = shipment.recipe
    data = {
        "dataset": dataset.name,
        "clips": len(dataset.clips),
        "sha256": digest(dataset),
        "licence": dataset.licence,
        "citation": dataset.citation,
    }
    settings = {"data": data, "recipe": recipe.to_json()}
    if run.config.exists():
        run.check_same(settings)
        if run.metrics.exists():
            figures: dict[str, Any] = json.loads(run.metrics.read_text())
            return figures
    resume = run.config.exists()
    if not resume:
        run.start(settings, PROGRAM)
    model = build_model(dataset.labels, recipe, Weights())
    learned = learn(Job(model, dataset, Split.whole(dataset), recipe, run, resume))
    if not learned.finished:
        raise KeyboardInterrupt
    made = {**provenance(PROGRAM), "backend": keras.backend.backend()}
    made["command"] = portable(made["command"])
    path = PackagedModel.at(run.directory, shipment.name).bundle
    contract = export_tflite(
        model,
        path,
        shipment.quantization,
        clips=learned.clips[:: max(1, len(learned.clips) // _COMPARED_CLIPS)],
        training={**settings, "held_out_fold": None, "made": made},
        licence=shipment.licence,
    )
    content = path.read_bytes()
    if len(content) > shipment.most_bytes:
        raise RunError(
            f"{path} must have at most {shipment.most_bytes:,} bytes. Received: {len(content):,}."
        )
    figures = {
        **settings,
        "made": made,
        "training": outcome.speed(run.read_history(), learned.clips_per_epoch),
        "bundle": {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "quantization": contract.quantization,
            "window_seconds": contract.front_end.window_seconds,
            "labels": contract.labels,
            "exclusive": contract.exclusive,
            "parity": contract.parity,
            "parameters": outcome.sizes(model)["parameters"],
        },
    }
    write_json(run.metrics, figures)
    run.checkpoint.unlink()
    return figures


def digest(dataset: AudioDataset) -> str:
    """Return the SHA-256 of all clips' names, labels and samples, independent of file format."""

    def of_clip(clip: Clip) -> bytes:
        sha256 = hashlib.sha256(f"{clip.name}\0{dataset.text(clip)}\0".encode())
        sha256.update(dataset.read(clip, _RATE_HZ).tobytes())
        return sha256.digest()

    digests = map_files(of_clip, dataset.clips, lambda clip: clip.name, f"Hashing {dataset.name}")
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
