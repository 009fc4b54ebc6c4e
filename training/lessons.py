"""What a teacher makes of the training clips' views, kept on disk, and batches that carry it."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.files import replacing
from semanticac_keras.progress import progress_bar
from training.learning.augment import Waveform
from training.learning.batches import TrainingBatches, made_ahead
from training.learning.tagger import Teacher, TeacherError

TaughtBatch = tuple[Waveform, dict[str, NDArray[np.float32]]]
_Answer = tuple[NDArray[np.float32], NDArray[np.float16]]

_WITNESSES = 8


class Lessons:
    """A teacher's answers to every view of every training clip.

    Each view is one file, in a directory named after everything that the answers depend on: a
    killed run goes on with the views that are missing, and runs that differ in other things share
    them. The teacher hears whole examples, mixtures among them, for the answer to a mixture is not
    the mixture of the answers.

    Args:
        teacher: who answers.
        batches: where the views come from; the teacher hears these clips and no others.
        sample_rate_hz: of the clips.
        num_views: V.
        directory: of the cache, in which the lessons get a directory of their own.
        progress: whether to show a bar on stderr.

    Attributes:
        views: V arrays (n,), mapped from disk, with the fields `scores` (K,), means over the
            teacher's windows, and `embeddings` (W, D), float16, one a window.
        embedding_dim: D, the teacher's.
        mean_scores: (K,) over all views.
        exclusive: whether the scores of an example sum to 1.

    Raises:
        TeacherError: if the teacher does not answer with probabilities, or with huge embeddings.
    """

    def __init__(
        self,
        teacher: Teacher,
        batches: TrainingBatches,
        sample_rate_hz: int,
        num_views: int,
        directory: Path,
        progress: bool = False,
    ) -> None:
        self._teacher = teacher
        self._batches = batches
        self._sample_rate_hz = sample_rate_hz
        self.directory = directory / self._key()
        num_clips = len(batches.waveforms)
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            progress_bar(f"{teacher.path.name} listens", num_views, progress) as advance,
        ):
            for view in range(num_views):
                if not self._path(view).exists():
                    answers = list(pool.map(self._answer, repeat(view), range(num_clips)))
                    with replacing(self._path(view)) as temporary:
                        np.save(temporary, _table(answers))
                advance(1)
        self.views = [np.load(self._path(view), mmap_mode="r") for view in range(num_views)]
        self.embedding_dim = teacher.embedding_dim
        self.mean_scores = self._mean_over_views(lambda view: view["scores"])
        self.exclusive = all(
            np.allclose(view["scores"].sum(axis=1), 1.0, atol=1e-3) for view in self.views
        )
        self._mean = self._mean_over_views(_clip_means)
        self._variance = self._mean_over_views(lambda view: (_clip_means(view) - self._mean) ** 2)

    def targets(self, view: int, clips: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """What to teach about some clips.

        Args:
            view: which of the views.
            clips: indices (B,).

        Returns:
            `scores` (B, K), and, if the teacher has embeddings, `embedding` (B, D): the mean over
            the windows, each dimension standardised over all views.
        """
        rows = self.views[view][clips]
        targets = {"scores": np.ascontiguousarray(rows["scores"])}
        if self.embedding_dim:
            # A dimension that never changes has nothing to teach: it becomes zero.
            deviation = np.sqrt(self._variance) + 1e-6
            targets["embedding"] = (_clip_means(rows) - self._mean) / deviation
        return targets

    def _path(self, view: int) -> Path:
        return self.directory / f"view-{view:03}.npy"

    def _answer(self, view: int, clip: int) -> _Answer:
        """Mean scores (K,), and the embedding of each window (W, D), for an example."""
        waveforms, _ = self._batches.view(view, np.array([clip]))
        scores, embeddings = self._teacher.hear(waveforms[0], self._sample_rate_hz)
        if np.abs(embeddings).max(initial=0.0) > np.finfo(np.float16).max:
            raise TeacherError(f"{self._teacher.path}: its embeddings do not fit 16-bit floats.")
        return scores.mean(axis=0), embeddings.astype(np.float16)

    def _key(self) -> str:
        """Digest of everything that the answers depend on."""
        batches, teacher = self._batches, self._teacher
        numbers = (teacher.sample_rate_hz, self._sample_rate_hz, batches.window_samples)
        settings = (teacher.sha256, numbers, batches.augmentation, batches.seed)
        sha256 = hashlib.sha256(repr(settings).encode())
        for waveform in batches.waveforms:
            sha256.update(waveform.tobytes())
        # The code is among them, too: a few answers witness what it does today.
        for clip in range(min(_WITNESSES, len(batches.waveforms))):
            for values in self._answer(0, clip):
                sha256.update(values.tobytes())
        return sha256.hexdigest()[:16]

    def _mean_over_views(
        self, values: Callable[[NDArray[np.void]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Mean row of all views, read one at a time."""
        return np.mean([values(view).mean(axis=0) for view in self.views], axis=0)


class TaughtBatches:
    """Endless batches of views, in each epoch the next one, with what the teacher made of them.

    Args:
        batches: says which clips make a batch, and makes the views.
        lessons: the teacher's answers to them.
    """

    def __init__(self, batches: TrainingBatches, lessons: Lessons) -> None:
        self.batches = batches
        self.lessons = lessons
        self.batch_size = batches.batch_size
        self.steps_per_epoch = batches.steps_per_epoch

    def batch(self, number: int) -> TaughtBatch:
        """Batch `number` since the start of training: inputs, and targets by name: label `shares`
        (B, K), and the teacher's."""
        epoch, clips = self.batches.choose(number)
        view = epoch % len(self.lessons.views)
        waveforms, shares = self.batches.view(view, clips)
        targets = {"shares": shares, **self.lessons.targets(view, clips)}
        return self.batches.inputs(waveforms), targets

    def generate(self, first_epoch: int = 0) -> Iterator[TaughtBatch]:
        """Batches in order, from the start of an epoch on, a few made ahead."""
        return made_ahead(self.batch, first_epoch * self.steps_per_epoch)


def _table(answers: Sequence[_Answer]) -> NDArray[np.void]:
    """One row an example, (n,)."""
    scores, embeddings = answers[0]
    fields = [("scores", "f4", scores.shape), ("embeddings", "f2", embeddings.shape)]
    return np.array(answers, fields)


def _clip_means(rows: NDArray[np.void]) -> NDArray[np.float32]:
    """Mean embedding over the windows, (n, D)."""
    return rows["embeddings"].mean(axis=1, dtype=np.float32)
