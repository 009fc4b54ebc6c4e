"""Speed of one window in each form of our model and in its peers."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edge.inference.bundle import BundleContract, Inputs, Quantization
from edge.inference.frontend import FrontEnd, log_mel
from edge.types import FloatArray
from semanticac_keras import (
    AudioTower,
    ClassIndex,
    ClassVectors,
    ExportError,
    HTSATEncoder,
    PooledMLP,
    SemanticAC,
    TaggerTower,
    export_tflite,
)
from semanticac_keras.audio_tower import Tower, window_batch
from semanticac_keras.checkpoints.clap import FRONT_END
from semanticac_keras.heads import head_from_preset
from semanticac_keras.sound_files import AUDIO_SUFFIXES, read_waveform
from semanticac_keras.tagger import Tagger
from training.bench.contenders import ContenderError, Contest
from training.bench.core import SINGLE_THREADED
from training.bench.inference import tagger_shape
from training.bench.peers import CLAP, ONNX, ONNX_INT8
from training.learning.model import TAGGER_HIDDEN_DIM
from training.runs.cost import count_graph_macs

# Our models, then the peers, in the order of the table.
ENCODERS: dict[str, str] = {
    "float32": "ours, float32",
    "float16": "ours, float16 weights",
    "int8": "ours, dynamic int8",
    "waveform": "ours, float32, from the waveform",
    "torch": "Hugging Face on PyTorch (eager)",
    "compile": "Hugging Face on PyTorch (torch.compile)",
    "onnx": "Hugging Face on ONNX Runtime",
    "onnx-int8": "Hugging Face on ONNX Runtime, dynamic int8",
}
_OURS: dict[str, tuple[Quantization, Inputs]] = {
    "float32": ("float32", "log_mel"),
    "float16": ("float16", "log_mel"),
    "int8": ("dynamic_int8", "log_mel"),
    "waveform": ("float32", "waveform"),
}
# Preset that the others are compared with.
REFERENCE = "base"
# The published CLAP's audio tower, whose size is no preset.
CLAP_SIZE = "clap"
_CLAP_DIM = 512
# Kind and file of each peer, see `training.bench.inference` and `training.bench.peers`.
_PEERS = {
    "torch": ("torch", CLAP),
    "compile": ("compile", CLAP),
    "onnx": ("onnx", ONNX),
    "onnx-int8": ("onnx", ONNX_INT8),
}
_TURN_SECONDS = 0.5
_LABELS = tuple(f"label {number}" for number in range(50))
_MOST_CLIPS = 16


@dataclass
class Entry:
    """Contender and its measurements.

    Args:
        title: name in the table.
        command: program and arguments of its process.
        seconds: length of a window.
        macs: multiply-accumulates per invocation.
        partitions: number of graph partitions that the CPU delegate runs, for a `.tflite`.
        runtime: name and version of the runtime.
        invocations: number of model invocations per window.
        cold_seconds: wall time from process start to the first result.
        cold_cpu_seconds: CPU time from process start to the first result.
        peak_mb: peak resident memory until the first result, in MB of 2**20 bytes.
        cpu_seconds: CPU time per window in each round.
        wall_seconds: wall time per window in each round.
        cosine: smallest cosine to the float32 bundle's embedding of the same clip.
    """

    title: str
    command: list[str]
    seconds: float
    macs: int | None = None
    partitions: int | None = None
    runtime: str = ""
    invocations: int = 1
    cold_seconds: float = math.nan
    cold_cpu_seconds: float = math.nan
    peak_mb: float = math.nan
    cpu_seconds: list[float] = field(default_factory=list)
    wall_seconds: list[float] = field(default_factory=list)
    cosine: float | None = None


@dataclass
class Outcome:
    """Results of `compare_encoders`.

    Args:
        entries: contenders that finished, by name, in the given order.
        left_out: reasons of the contenders that failed, by title.
        peaks: operations per second of the core in each round, by method of measurement.
        clips: description of the clips used for the cosines.
    """

    entries: dict[str, Entry]
    left_out: dict[str, str]
    peaks: dict[str, list[float]]
    clips: str


def compare_encoders(
    names: Sequence[str],
    preset: str,
    rounds: int,
    folder: Path,
    model: Path | None = None,
    data_dir: Path | None = None,
    taggers: Sequence[Path] = (),
    tagger_rate_hz: int = 16_000,
    tflite_python: str | None = None,
) -> Outcome:
    """Measure windows in all contenders, one at a time, on one core.

    Args:
        names: keys of `ENCODERS`.
        preset: sizes of the models, a preset or `CLAP_SIZE`. All except `REFERENCE` are compared
            with `REFERENCE` in float32 as well.
        rounds: number of measurements per contender, half a second each.
        folder: directory for the exported models.
        model: path of a saved `SemanticAC` to use instead of random weights.
        data_dir: directory of sounds for the cosines; synthetic sounds by default.
        taggers: `.tflite` files of other models, which process the same seconds of sound.
        tagger_rate_hz: sample rate of taggers with waveform input.
        tflite_python: interpreter with tflite-runtime, which then runs our models as well.

    Raises:
        ContenderError: if none of our models could be exported.
    """
    models = _Models(preset, folder, model)
    clips, description = _clips(models.front_end, data_dir)
    entries: dict[str, Entry] = {}
    left_out: dict[str, str] = {}
    for name in [name for name in names if name in _OURS]:
        try:
            entries[name] = models.ours(name)
        except ExportError as error:
            left_out[ENCODERS[name]] = str(error)
    if not entries:
        raise ContenderError(
            f"none of our models could be exported: {left_out or 'none requested'}"
        )
    if tflite_python:
        for name in [name for name in entries if name in _OURS]:
            entry = entries[name]
            entries[f"{name}-tflite-runtime"] = Entry(
                f"{entry.title}, on tflite-runtime",
                [tflite_python, *entry.command[1:]],
                entry.seconds,
                entry.macs,
            )
    if model is None and preset != REFERENCE and "float32" in entries:
        entries[REFERENCE] = _Models(REFERENCE, folder, None).ours("float32")
        seconds = f"{entries[REFERENCE].seconds:g} s"
        entries[REFERENCE].title = f"ours, float32, preset `{REFERENCE}`, {seconds}"
    others = [name for name in names if name not in _OURS]
    for name, peer in (models.peers(others) if others else {}).items():
        if isinstance(peer, Entry):
            entries[name] = peer
        else:
            left_out[ENCODERS[name]] = peer
    for path in taggers:
        try:
            entries[str(path)] = models.tagger(path, tagger_rate_hz)
        except (ContenderError, ExportError, RuntimeError, ValueError) as error:
            left_out[str(path)] = " ".join(str(error).split())

    peaks = _race(entries, left_out, rounds, _write_log_mels(clips, models.front_end, folder))
    return Outcome(entries, left_out, peaks, description)


def _race(
    entries: dict[str, Entry], left_out: dict[str, str], rounds: int, log_mels: Path
) -> dict[str, list[float]]:
    """Run the entries in turns and record their measurements; return the rates of the core."""
    peaks: dict[str, list[float]] = {}
    # An empty cache: torch.compile must not reuse earlier results.
    environment = {**SINGLE_THREADED, "TORCHINDUCTOR_CACHE_DIR": str(log_mels.parent / "inductor")}
    with Contest() as contest:
        contest.start("peak", _command("peak"), SINGLE_THREADED)
        windows = {}
        for name, entry in entries.items():
            started = time.perf_counter()
            for ready in contest.start(name, entry.command, environment).values():
                entry.cold_seconds = time.perf_counter() - started
                for key, value in ready.items():
                    setattr(entry, key, value)
                for turn in contest.ask({name: "1"}).values():
                    windows[name] = str(math.ceil(_TURN_SECONDS / turn["wall_seconds"]))
        for _ in range(rounds):
            for reply in contest.ask({"peak": "1"} if "peak" in contest.running else {}).values():
                for kind, rate in reply["flops_per_second"].items():
                    peaks.setdefault(kind, []).append(rate)
            for name in [name for name in contest.running if name != "peak"]:
                for turn in contest.ask({name: windows[name]}).values():
                    entries[name].cpu_seconds.append(turn["cpu_seconds"])
                    entries[name].wall_seconds.append(turn["wall_seconds"])
        _take_cosines(contest, entries, log_mels)
        for name, reason in contest.left_out.items():
            left_out[entries.pop(name).title if name in entries else name] = reason
    return peaks


def _take_cosines(contest: Contest, entries: dict[str, Entry], log_mels: Path) -> None:
    """Compare the embeddings of our log-mel bundles with those of the float32 bundle."""
    compared = [
        name for name in contest.running if name.partition("-")[0] in ("float32", "float16", "int8")
    ]
    answers = contest.ask(dict.fromkeys(compared, str(log_mels)))
    if "float32" not in answers:
        return
    vectors = {name: np.array(answer["embeddings"]) for name, answer in answers.items()}
    for name, vector in vectors.items():
        if name != "float32":
            entries[name].cosine = float(np.sum(vector * vectors["float32"], axis=1).min())


def export_random(preset: str, quantization: Quantization, inputs: Inputs, folder: Path) -> Path:
    """Export a bundle with random weights and return its path.

    Args:
        preset: name of the preset, or `CLAP_SIZE`.
        quantization: see `export_tflite`.
        inputs: see `export_tflite`.
        folder: target directory. The file is named after preset and quantization.

    Raises:
        ExportError: if the export fails.
    """
    path = folder / f"{preset}-{quantization}.tflite"
    export_tflite(random_model(preset), path, quantization, inputs)
    return path


def export_on_tagger(tagger: Tagger, folder: Path) -> Path:
    """Export a bundle on a tagger, with random weights as in a training, and return its path.

    Raises:
        ExportError: if the export fails.
        TaggerError: if the tagger has no embedding.
    """
    keras.utils.set_random_seed(0)
    tower = TaggerTower.from_tagger(tagger, head_from_preset("cscm", "small", TAGGER_HIDDEN_DIM))
    path = folder / f"{tagger.path.stem}.tflite"
    export_tflite(_without_texts(tower), path)
    return path


def random_model(preset: str) -> SemanticAC:
    """Create a model with random weights and without a text encoder.

    Args:
        preset: name of the preset, or `CLAP_SIZE`.
    """
    keras.utils.set_random_seed(0)
    if preset != CLAP_SIZE:
        return SemanticAC.from_preset(preset, _LABELS, texts="none")
    head = PooledMLP(_CLAP_DIM)
    return _without_texts(AudioTower(FRONT_END, HTSATEncoder(), head, whole_repeats=True))


def _without_texts(tower: Tower) -> SemanticAC:
    vectors = ClassVectors(len(_LABELS), tower.embedding_dim)
    return SemanticAC(tower, vectors, ClassIndex(_LABELS), _LABELS, "{label}")


class _Models:
    """Writes the model files of one preset and creates their entries.

    Args:
        preset: name of the preset.
        folder: directory for the files.
        model: path of a saved `SemanticAC` to use instead of random weights.
    """

    def __init__(self, preset: str, folder: Path, model: Path | None) -> None:
        self._preset, self._folder = preset, folder
        self._model = (
            keras.saving.load_model(model, compile=False) if model else random_model(preset)
        )
        self.front_end: FrontEnd = self._model.front_end

    def ours(self, name: str) -> Entry:
        """Export our model in one form. Raises `ExportError` if the form is not supported."""
        quantization, inputs = _OURS[name]
        path = self._folder / f"{self._preset}-{name}.tflite"
        contract: BundleContract = export_tflite(self._model, path, quantization, inputs)
        entry = self._entry(ENCODERS[name], "bundle", path)
        entry.macs = count_graph_macs(path.read_bytes())
        entry.partitions = int(contract.parity["delegate_partitions"])
        return entry

    def peers(self, names: Sequence[str]) -> dict[str, Entry | str]:
        """Entries of Hugging Face's model in several runtimes, or the reason for each failure."""
        arguments = self._model.audio_tower.encoder.get_config()
        child = subprocess.run(
            [sys.executable, "-m", "training.bench.peers", str(self._folder)],
            input=json.dumps(arguments),
            capture_output=True,
            text=True,
        )
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        made: dict[str, Any] = json.loads(child.stdout) if child.stdout else {"error": last}
        if "error" in made:
            return dict.fromkeys(names, made["error"])
        entries: dict[str, Entry | str] = {}
        for name in names:
            kind, file = _PEERS[name]
            entry = self._entry(ENCODERS[name], kind, self._folder / file)
            entry.macs = made["macs"]
            entries[name] = made["missing"].get(file, entry)
        return entries

    def tagger(self, path: Path, rate_hz: int) -> Entry:
        """Entry of a third-party `.tflite`."""
        entry = self._entry(path.name, "tagger", path, rate_hz)
        graph = path.read_bytes()
        interpreter = Interpreter(model_content=graph, num_threads=1)
        (details,) = interpreter.get_input_details()
        signature = [int(size) for size in details["shape_signature"]]
        shape = tagger_shape(signature, round(entry.seconds * rate_hz))
        interpreter.resize_tensor_input(details["index"], shape)
        interpreter.allocate_tensors()
        operators = [operator["op_name"] for operator in interpreter._get_ops_details()]
        entry.partitions = operators.count("DELEGATE")
        entry.macs = count_graph_macs(graph, shape)
        return entry

    def _entry(self, title: str, kind: str, path: Path, rate_hz: int = 0) -> Entry:
        seconds = self.front_end.window_seconds
        return Entry(title, _command(kind, str(path), str(seconds), str(rate_hz)), seconds)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "training.bench.inference", *arguments]


def _clips(front_end: FrontEnd, data_dir: Path | None) -> tuple[list[FloatArray], str]:
    """Evenly spaced choice of sounds, and its description."""
    if data_dir is None:
        rng = np.random.default_rng(0)
        samples = front_end.window_samples
        seconds = np.arange(samples) / front_end.sample_rate_hz
        clips = []
        for hz in np.geomspace(100.0, 0.4 * front_end.sample_rate_hz, _MOST_CLIPS):
            tone = np.sin(2 * np.pi * hz * seconds) * (1 + np.sin(2 * np.pi * rng.uniform(1, 8)))
            noise = rng.standard_normal(samples) * rng.uniform(0.001, 0.1)
            clips.append((0.1 * tone + noise).astype(np.float32))
        return clips, f"{len(clips)} synthetic sounds (tones in noise)"
    paths = sorted(p for p in data_dir.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    if not paths:
        raise ContenderError(f"no audio files found in {data_dir}: check --data-dir")
    chosen = paths[:: math.ceil(len(paths) / _MOST_CLIPS)]
    clips = [read_waveform(path, front_end.sample_rate_hz) for path in chosen]
    return clips, f"{len(clips)} of the {len(paths)} clips in {data_dir.name}"


def _write_log_mels(clips: list[FloatArray], front_end: FrontEnd, folder: Path) -> Path:
    """Write the log-mels of the clips, (n, frames, mels), and return the path."""
    windows, _ = window_batch(clips, front_end.window_samples)
    path = folder / "log_mels.npy"
    np.save(path, np.stack([log_mel(window, front_end) for window in windows]))
    return path
