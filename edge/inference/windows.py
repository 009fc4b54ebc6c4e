"""Windows of a stream as the model's input: samples, log-mel frames or a tagger's embeddings."""

from typing import Protocol

import numpy as np

from edge.inference.bundle import BundleContract
from edge.inference.frontend import FrontEnd, StreamingLogMel, log_mel
from edge.inference.ring import Ring
from edge.inference.tagger import TaggerGraph
from edge.types import FloatArray


class Windows(Protocol):
    """Model inputs of the windows of a stream, whose samples are in a ring."""

    def is_complete(self, start: int) -> bool:
        """Whether the input of the window from sample `start` on can be computed."""

    def prepare(self, next_start: int) -> None:
        """Process new samples; the window from sample `next_start` on comes next."""

    def end(self) -> None:
        """Process the end of the stream."""

    def last_start(self) -> int:
        """First sample of the last window of the ended stream."""

    def window(self, start: int) -> FloatArray:
        """Return the input of a complete window: a view until the next call."""

    def of(self, samples: FloatArray) -> FloatArray:
        """Return the input of a single window of samples (window_samples,)."""

    def reset(self) -> None:
        """Forget the stream."""


def windows_of(
    contract: BundleContract, samples: "Ring[np.float32]", piece: int, tagger: TaggerGraph | None
) -> Windows:
    """Create the windows for a bundle.

    Args:
        contract: the bundle's contract.
        samples: ring of the stream's newest samples.
        piece: largest number of samples appended at a time.
        tagger: graph of its tagger, if there is one.
    """
    if tagger:
        return TaggerWindows(tagger, samples, contract.front_end.window_samples)
    if contract.inputs == "waveform":
        return SampleWindows(samples, contract.front_end.window_samples)
    return LogMelWindows(contract.front_end, samples, piece)


class SampleWindows:
    """The samples themselves.

    Args:
        samples: ring of the stream's newest samples.
        window_samples: samples in a window.
    """

    def __init__(self, samples: "Ring[np.float32]", window_samples: int) -> None:
        self._samples = samples
        self._window_samples = window_samples

    def is_complete(self, start: int) -> bool:
        return start + self._window_samples <= self._samples.seen

    def prepare(self, next_start: int) -> None:
        pass

    def end(self) -> None:
        pass

    def last_start(self) -> int:
        return self._samples.seen - self._window_samples

    def window(self, start: int) -> FloatArray:
        return self._samples.rows(start, start + self._window_samples)

    def of(self, samples: FloatArray) -> FloatArray:
        return samples

    def reset(self) -> None:
        pass


class LogMelWindows:
    """Log-mel frames. Frames are cheaper in large batches, so they wait until they are needed.

    Args:
        front_end: the contract's front end.
        samples: ring of the stream's newest samples.
        piece: largest number of samples appended at a time, and the longest that frames wait.
    """

    def __init__(self, front_end: FrontEnd, samples: "Ring[np.float32]", piece: int) -> None:
        self._front_end = front_end
        self._samples = samples
        self._piece = piece
        self.log_mel = StreamingLogMel(front_end)
        kept_frames = front_end.frames_in(samples.size)
        self._frames: Ring[np.float32] = Ring(kept_frames, np.float32, (front_end.num_mels,))
        self._framed = 0  # samples pushed to `log_mel`

    def is_complete(self, start: int) -> bool:
        first = start // self._front_end.hop_length
        return first + self._front_end.num_frames <= self._frames.seen

    def prepare(self, next_start: int) -> None:
        front_end = self._front_end
        last_frame = next_start // front_end.hop_length + front_end.num_frames - 1
        needed = last_frame * front_end.hop_length + front_end.n_fft // 2
        if self._samples.seen >= needed or self._samples.seen - self._framed >= self._piece:
            self._update()

    def end(self) -> None:
        self._update()
        self._frames.append(self.log_mel.flush())

    def last_start(self) -> int:
        return (self._frames.seen - self._front_end.num_frames) * self._front_end.hop_length

    def window(self, start: int) -> FloatArray:
        first = start // self._front_end.hop_length
        return self._frames.rows(first, first + self._front_end.num_frames)

    def of(self, samples: FloatArray) -> FloatArray:
        return log_mel(samples, self._front_end)

    def reset(self) -> None:
        self.log_mel.reset()
        self._frames.reset()
        self._framed = 0

    def _update(self) -> None:
        """Compute the frames of all new samples."""
        seen = self._samples.seen
        self._frames.append(self.log_mel.push(self._samples.rows(self._framed, seen)))
        self._framed = seen


class TaggerWindows(SampleWindows):
    """Embeddings of a tagger. Each tagger window is computed at most once, when it is needed.

    Args:
        tagger: the tagger's graph.
        samples: ring of the stream's newest samples.
        window_samples: samples in a window of the model.
    """

    def __init__(
        self, tagger: TaggerGraph, samples: "Ring[np.float32]", window_samples: int
    ) -> None:
        super().__init__(samples, window_samples)
        self._tagger = tagger
        contract = tagger.contract
        self._size, self._hop = contract.window_samples, contract.hop_samples
        self._num_windows = contract.windows_in(window_samples)
        self._embeddings: Ring[np.float32] = Ring(
            self._num_windows, np.float32, (contract.embedding_dim,)
        )

    def window(self, start: int) -> FloatArray:
        first, rest = divmod(start, self._hop)
        if rest:  # the last window of a stream, which ends with it
            return self.of(self._samples.rows(start, start + self._window_samples))
        known = self._embeddings
        if known.seen < first:
            known.skip(first - known.seen)
        while known.seen < first + self._num_windows:
            begin = known.seen * self._hop
            samples = self._samples.rows(begin, begin + self._size)
            known.append(self._tagger.embed(samples)[np.newaxis])
        return known.rows(first, first + self._num_windows)

    def of(self, samples: FloatArray) -> FloatArray:
        return self._tagger.embed_all(samples)

    def reset(self) -> None:
        self._embeddings.reset()
