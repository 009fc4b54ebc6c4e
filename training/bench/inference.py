"""Child process that runs one model in one runtime.

`python -m training.bench.inference KIND MODEL SECONDS [HZ]` reports when it has processed its first
window. Each input line then requests a number of windows, or names a file of log-mels to embed. The
process imports only its own runtime because its start-up time is measured as well.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from edge.types import FloatArray
from training.bench.core import FusedMultiplyAdds, product_flops_per_second, stay_on_one_core

MATRIX_PRODUCT = "matrix product of numpy"
FUSED_MULTIPLY_ADDS = "fused multiply-adds"
# Assumed frame period of taggers with log-mel input.
_PEER_FRAME_SECONDS = 0.01


class Model(Protocol):
    """Model that processes one window.

    Attributes:
        runtime: name and version of the runtime.
        invocations: number of graph invocations per window.
    """

    runtime: str
    invocations: int

    def run(self) -> None:
        """Process one window."""


class Bundle:
    """Our model in the installed runtime, with the checks made on a device."""

    def __init__(self, path: str, seconds: float, rate_hz: int) -> None:
        from edge.inference.interpreter import Interpreter

        self._interpreter = Interpreter(path)
        self.runtime = self._interpreter.runtime
        self.invocations = 1
        self._window = _noise(self._interpreter.contract.input_shape[1:])

    def run(self) -> None:
        self._interpreter.run(self._window)

    def embed(self, log_mels: FloatArray) -> list[list[float]]:
        """Return embeddings (n, C) of log-mels (n, frames, mels)."""
        return [self._interpreter.run(log_mel).embedding.tolist() for log_mel in log_mels]


class Tagger:
    """Any `.tflite` with one waveform or log-mel input, invoked until the window is covered."""

    def __init__(self, path: str, seconds: float, rate_hz: int) -> None:
        from importlib.metadata import version

        from ai_edge_litert.interpreter import Interpreter

        self._model = Interpreter(model_path=path, num_threads=1)
        (details,) = self._model.get_input_details()
        signature = [int(size) for size in details["shape_signature"]]
        unit = 1 / rate_hz if len(signature) <= 2 else _PEER_FRAME_SECONDS
        shape = tagger_shape(signature, round(seconds / unit))
        self._model.resize_tensor_input(details["index"], shape)
        self._model.allocate_tensors()
        self._model.set_tensor(details["index"], _noise(tuple(shape)))
        # Adjacent segments; the last one may extend past the window.
        self.invocations = max(1, -int(-seconds // (max(shape) * unit)))
        self.runtime = f"ai-edge-litert {version('ai-edge-litert')}"

    def run(self) -> None:
        for _ in range(self.invocations):
            self._model.invoke()


class Onnx:
    """Graph in ONNX Runtime at its highest optimisation level."""

    def __init__(self, path: str, seconds: float, rate_hz: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        (declared,) = self._session.get_inputs()
        self._feed = {declared.name: _noise(tuple(declared.shape))}
        self.runtime = f"onnxruntime {onnxruntime.__version__}"
        self.invocations = 1

    def run(self) -> None:
        self._session.run(None, self._feed)


class Torch:
    """Hugging Face's encoder from a `save_pretrained` directory."""

    def __init__(self, path: str, seconds: float, rate_hz: int, compiled: bool = False) -> None:
        import torch
        from transformers import ClapAudioModel

        torch.set_num_threads(1)
        model = ClapAudioModel.from_pretrained(path).eval()
        # As many frames as our model receives, so that both models resize the same input.
        frames, mels = json.loads((Path(path) / "log_mel_shape.json").read_text())
        self._input = torch.from_numpy(_noise((1, 1, frames, mels)))
        self._model: Callable[..., Any] = torch.compile(model, dynamic=False) if compiled else model
        self._inference_mode = torch.inference_mode
        self.runtime = f"torch {torch.__version__}"
        self.invocations = 1

    def run(self) -> None:
        with self._inference_mode():
            self._model(input_features=self._input)


class CompiledTorch(Torch):
    """Hugging Face's encoder under `torch.compile`."""

    def __init__(self, path: str, seconds: float, rate_hz: int) -> None:
        super().__init__(path, seconds, rate_hz, compiled=True)


KINDS: dict[str, Callable[[str, float, int], Model]] = {
    "bundle": Bundle,
    "tagger": Tagger,
    "onnx": Onnx,
    "torch": Torch,
    "compile": CompiledTorch,
}


def tagger_shape(signature: list[int], units: int) -> list[int]:
    """Return the input shape of a tagger: batch size 1 and, if dynamic, the length of the sound.

    Args:
        signature: shape signature of the input, -1 for dynamic dimensions.
        units: number of samples or frames in the sound.
    """
    shape = [units if size < 0 else size for size in signature]
    return [1, *shape[1:]] if len(shape) > 1 and signature[0] < 0 else shape


def serve(kind: str, arguments: list[str], requests: TextIO, answers: TextIO) -> None:
    """Load a model, process one window, then serve requests until `requests` ends.

    Args:
        kind: one of `KINDS`, or `"peak"` to measure the core itself.
        arguments: path of the model, seconds per window, and sample rate of a tagger.
        requests: input stream, one request per line.
        answers: stream for the replies.
    """

    def answer(**reply: Any) -> None:
        print(json.dumps(reply), file=answers, flush=True)

    try:
        if kind == "peak":
            _serve_peak(requests, answer)
            return
        path, seconds, rate_hz = arguments
        model = KINDS[kind](path, float(seconds), int(rate_hz))
        model.run()
        answer(
            runtime=model.runtime,
            invocations=model.invocations,
            cold_cpu_seconds=time.process_time(),
            peak_mb=peak_mb(),
        )
        for line in requests:
            if not line.strip().isdigit():
                assert isinstance(model, Bundle)
                answer(embeddings=model.embed(np.load(line.strip())))
                continue
            windows = int(line)
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(windows):
                model.run()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            answer(cpu_seconds=cpu / windows, wall_seconds=wall / windows)
    except Exception as error:  # must not stop the other contenders
        answer(error=" ".join(str(error).split())[:300] or type(error).__name__)


def _serve_peak(requests: TextIO, answer: Callable[..., None]) -> None:
    """Measure the rates of the core once per request."""
    try:
        fused: FusedMultiplyAdds | None = FusedMultiplyAdds()
        reason = ""
    except OSError as error:
        fused, reason = None, str(error)
    answer(reason=reason)
    for _ in requests:
        rates = {MATRIX_PRODUCT: product_flops_per_second()}
        if fused:
            rates[FUSED_MULTIPLY_ADDS] = fused.flops_per_second()
        answer(flops_per_second=rates)


def peak_mb() -> float:
    """Peak resident memory of this process in MB of 2**20 bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def _noise(shape: tuple[int, ...]) -> FloatArray:
    return 0.1 * np.random.default_rng(0).standard_normal(shape, np.float32)


if __name__ == "__main__":
    stay_on_one_core()
    # Libraries also print to stdout: redirect that to stderr and keep the pipe for replies.
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.argv[1], sys.argv[2:], sys.stdin, pipe)
