"""Agreement of a student with its teacher on sources that it never heard, and its transfer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.inference.frontend import FrontEnd
from edge.types import BoolArray, FloatArray
from semanticac_keras.audio_tower import AudioTower
from training.datasets import AudioDataset
from training.pretraining.batches import crop_of
from training.pretraining.spectra import to_decibels
from training.pretraining.student import Student
from training.pretraining.teacher import Targets
from training.runs.probing import Features
from training.runs.tagging import average_precision

# Name of the accuracy of `probe_accuracy` in a history.
PROBE = "probe_accuracy"
_AT_ONCE = 64
_PRESENT = 0.5
_FEWEST_POSITIVES = 5


@dataclass(frozen=True)
class Agreement:
    """Agreement of a student with its teacher.

    Args:
        crops: number of crops.
        top1: share of crops whose highest class is the teacher's.
        top5: share of crops whose five highest classes contain the teacher's highest.
        cosine: mean cosine between the two embeddings.
        mean_average_precision: mean over classes of the average precision, where a class is
            present if the teacher's score is at least 0.5; NaN if no class is in five crops.
        classes: number of those classes.
    """

    crops: int
    top1: float
    top5: float
    cosine: float
    mean_average_precision: float
    classes: int


def held_out_crops(
    targets: Targets, recordings: Sequence[int], front_end: FrontEnd, most: int, seed: int = 0
) -> list[tuple[int, int]]:
    """Choose crops that do not overlap, at most so many, at random but always the same.

    Returns:
        Recording and first window of each crop.
    """
    length = targets.grid.windows_in(front_end.window_seconds)
    crops = [
        (int(i), first)
        for i in recordings
        for first in range(0, max(1, int(targets.num_windows[i]) - length + 1), length)
    ]
    order = np.random.default_rng(seed).permutation(len(crops))[:most]
    return [crops[k] for k in sorted(order)]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Answers of a student and its teacher to n crops.

    Args:
        logits: the student's, of K classes, (n, K).
        scores: the teacher's highest of a crop's windows, (n, K).
        cosines: of the two embeddings, the mean over the windows of a crop, (n,).
    """

    logits: FloatArray
    scores: FloatArray
    cosines: FloatArray

    def of(self, which: BoolArray) -> "Comparison":
        """Return the answers to some of the crops, chosen by a mask (n,)."""
        return Comparison(self.logits[which], self.scores[which], self.cosines[which])

    def agreement(self) -> Agreement:
        """Summarise the answers."""
        best = self.scores.argmax(axis=1)
        ranked = np.argsort(-self.logits, axis=1)[:, :5]
        present = self.scores >= _PRESENT
        precisions = [
            average_precision(present[:, k], self.logits[:, k])
            for k in np.flatnonzero(present.sum(axis=0) >= _FEWEST_POSITIVES)
        ]
        return Agreement(
            crops=len(best),
            top1=float((ranked[:, 0] == best).mean()),
            top5=float((ranked == best[:, None]).any(axis=1).mean()),
            cosine=float(self.cosines.mean()),
            mean_average_precision=float(np.mean(precisions)) if precisions else float("nan"),
            classes=len(precisions),
        )


def compare(
    student: Student, targets: Targets, crops: Sequence[tuple[int, int]], front_end: FrontEnd
) -> Comparison:
    """Let a student answer what its first teacher answered.

    Args:
        student: the student.
        targets: log-mels and the teacher's targets.
        crops: recording and first window of each crop.
        front_end: front end of the student.
    """
    mine, theirs, cosines = [], [], []
    for start in range(0, len(crops), _AT_ONCE):
        some = crops[start : start + _AT_ONCE]
        hop = targets.grid.hop_frames
        cut = [crop_of([targets], i, first * hop, front_end) for i, first in some]
        log_mels = np.stack([to_decibels(crop.power, front_end) for crop in cut])
        logits, answers = student.predict_on_batch(log_mels)
        asked = [crop.answers[0] for crop in cut]
        heard = np.stack([answer.heard for answer in asked])
        embeddings = np.stack([answer.embeddings for answer in asked])
        each = _cosine(np.asarray(answers[0][1]), embeddings)
        mine.append(np.asarray(logits))
        theirs.append(np.stack([answer.scores.max(axis=0) for answer in asked]))
        cosines.append((each * heard).sum(axis=1) / heard.sum(axis=1))
    return Comparison(np.concatenate(mine), np.concatenate(theirs), np.concatenate(cosines))


def probe_accuracy(tower: AudioTower, dataset: AudioDataset, clips: Sequence[FloatArray]) -> float:
    """Judge a tower by a linear probe: the mean accuracy over the folds of labelled clips."""
    features = Features.of(tower, dataset, clips)
    return float(np.mean([features.accuracy(*dataset.split(fold)) for fold in dataset.folds]))


def _cosine(a: FloatArray, b: FloatArray) -> FloatArray:
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.sum(a * b, axis=-1) / np.maximum(norms, 1e-9)
