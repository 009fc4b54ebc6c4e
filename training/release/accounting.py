"""Thresholds and figures of a packaged bundle, and the files beside it."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.commands.tuning.trials import Recall
from edge.events.thresholds import write_thresholds
from edge.files import replacing
from edge.inference.packaged import PackagedModel
from training.datasets import AudioDataset
from training.release import measure
from training.release.card import write_card
from training.release.credits import check_credits, read_credits
from training.release.folds import fold_bundles, fold_predictions, read_cross_validation
from training.release.measure import Listener
from training.release.others import halves
from training.release.shipment import Shipment
from training.runs.run import write_json


def account(
    shipment: Shipment,
    dataset: AudioDataset,
    bundle: Path,
    figures: dict[str, Any],
    data_dir: Path | None,
    crossval: Path | None,
) -> dict[str, Any]:
    """Choose the thresholds, and count false accepts and missed sounds.

    Args:
        shipment: packaged model.
        dataset: training data.
        bundle: path of the model.
        figures: figures of the training and export.
        data_dir: directory of the dataset and the other sounds.
        crossval: directory of a cross-validation with the same recipe.

    Returns:
        Additional figures.

    Raises:
        DatasetError: if there are too few other sounds.
        RunError: if the cross-validation has another recipe or dataset.
        ValueError: if no threshold is high enough.
    """
    chooses, tests = halves(shipment.others(data_dir, True))
    cross = None
    if crossval:
        cross = read_cross_validation(crossval, dataset.name, shipment.recipe)
    listener = Listener(bundle, shipment.policy, shipment.hop_seconds)
    with tempfile.TemporaryDirectory() as directory:
        recordings = [Path(directory) / f"{name}.wav" for name in ("chooses", "tests")]
        for half, recording in zip((chooses, tests), recordings, strict=True):
            half.write(recording, dataset)
        sha256 = hashlib.sha256(b"".join(path.read_bytes() for path in recordings)).hexdigest()
        chosen_by, tested_on = map(listener.background, recordings)
    thresholds = measure.choose(chosen_by, listener.labels, shipment.false_accepts_per_hour)
    held_out = in_windows = None
    if crossval and cross:
        in_windows = measure.reached(fold_predictions(crossval, cross), thresholds)
        if bundles := fold_bundles(crossval, cross):
            held_out = measure.heard(_held_out_recalls(shipment, dataset, bundles), thresholds)
    return {
        "licence": shipment.licence,
        "decisions": {
            "smoothing_windows": shipment.policy.smoothing_windows,
            "hop_seconds": shipment.hop_seconds,
            "gate_dbfs": measure.GATE_DBFS,
            "thresholds": thresholds,
        },
        "others": {
            "sha256": sha256,
            "allowed_per_hour": shipment.false_accepts_per_hour,
            "chose_by": chooses.categories,
            "tested_on": tests.categories,
            "chose": measure.false_accepts(chosen_by, len(chooses.clips), thresholds),
            "tested": measure.false_accepts(tested_on, len(tests.clips), thresholds),
        },
        "cross_validation": cross,
        "held_out": held_out,
        "held_out_windows": in_windows,
        "speed": measure.speed(bundle),
    }


def _held_out_recalls(
    shipment: Shipment, dataset: AudioDataset, bundles: list[tuple[int, Path]]
) -> Iterator[Recall]:
    """Yield the recall of each fold's model on the clips held out from it."""
    for fold, bundle in bundles:
        clips = [clip for clip in dataset.clips if clip.fold == fold]
        listener = Listener(bundle, shipment.policy, shipment.hop_seconds)
        yield listener.recall(clips, dataset.labels)


def write_files(
    shipment: Shipment, dataset: AudioDataset, figures: dict[str, Any], files: PackagedModel
) -> None:
    """Write figures, card, thresholds and settings beside the bundle.

    Args:
        shipment: packaged model.
        dataset: training data.
        figures: all figures.
        files: paths of the files.

    Raises:
        DatasetError: if a recording has no author, or the archive names another one.
        OSError: if a file cannot be written.
    """
    credits = read_credits(shipment.credits, (clip.source for clip in dataset.clips))
    path = dataset.clips[0].path
    if path is not None and (archive := path.parents[1] / "LICENSE").is_file():
        check_credits(credits, archive)
    write_json(files.figures, figures)
    with replacing(files.card) as temporary:
        text = write_card(shipment.name, json.loads(files.figures.read_text()), credits)
        temporary.write_text(text, encoding="utf-8")
    rate, smoothing = figures["others"]["tested"]["per_hour"], shipment.policy.smoothing_windows
    comments = [
        f"Made by: python -m training.reproduce {shipment.name}",
        f"{rate:.0f} false accepts per hour of uninterrupted unknown sounds, with "
        f"--smoothing {smoothing} and --hop {shipment.hop_seconds:g}; see the card.",
    ]
    write_thresholds(files.thresholds, figures["decisions"]["thresholds"], comments)
    with replacing(files.settings) as temporary:
        temporary.write_text(
            f"[model]\nmodel = {json.dumps(files.bundle.name)}\n\n[decisions]\n"
            f"smoothing = {smoothing}\nthresholds = {json.dumps(files.thresholds.name)}\n"
        )
