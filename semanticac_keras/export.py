"""TFLite export of the audio tower and the baked label embeddings as one bundle."""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from edge.files import replacing
from edge.inference.bundle import BundleContract, Inputs, Quantization, write_bundle
from edge.inference.interpreter import Interpreter, measure_probe
from edge.inference.streaming import StreamingClassifier
from edge.types import FloatArray
from semanticac_keras.audio_tower import AudioTower, Tower
from semanticac_keras.folding import fold_layer_norms
from semanticac_keras.htsat import HTSATEncoder
from semanticac_keras.log_mel import LogMel
from semanticac_keras.semantic_ac import SemanticAC
from semanticac_keras.tagger_tower import TaggerTower

# Largest probability difference explained by rounding. Integer weights have no such bound: their
# differences are measured and stored, and only a broken conversion is refused.
MAX_SCORE_DIFFERENCE = {"float32": 1e-4, "float16": 2e-2, "dynamic_int8": 1.0}
MIN_COSINE = 0.98


class ExportError(Exception):
    """Conversion failed, or the converted model disagrees with the Keras model."""


def export_tflite(
    model: SemanticAC,
    path: str | os.PathLike[str],
    quantization: Quantization = "float32",
    inputs: Inputs = "log_mel",
    clips: FloatArray | Sequence[npt.ArrayLike] | None = None,
    training: dict[str, Any] | None = None,
    licence: str = "unknown",
) -> BundleContract:
    """Export a model as a bundle for `edge.StreamingClassifier` and `semanticac-edge`.

    The graph has batch size 1, builtin operators only, and one CPU delegate partition. Its float32
    outputs are `embedding` (1, C), a unit vector; `cosines` (1, K), its cosine similarities to the
    labels; and `scores` (1, K), the softmax of the cosines times the logit scale or, with
    `targets="sigmoid"`, the sigmoid of this product plus the bias. After conversion the edge
    runtime runs the bundle on `clips`, and its output is compared with `model.predict`. A
    mixed-precision model is exported, and compared, in float32. Conversion needs TensorFlow; a
    model on another Keras backend is converted in a child process.

    Args:
        model: trained model; its baked label embeddings are exported.
        path: file to write; replaced only if the export succeeds.
        quantization: type of the weights: `"float32"`, `"float16"`, or `"dynamic_int8"`, int8 with
            float activations.
        inputs: input of the graph: `"log_mel"`, where the device computes each frame once for all
            windows that overlap it, or `"waveform"`, where the graph contains the front end. With a
            `TaggerTower` it is always `"embeddings"`, and the bundle contains the tagger.
        clips: float waveforms to compare on, as for `model.predict`; test signals if not given.
        training: training record stored in the contract: dataset, folds, accuracy.
        licence: licence of the weights.

    Returns:
        The contract, with the measured differences in `parity` and the output that devices must
        reproduce in `probe`.

    Raises:
        ExportError: if TensorFlow is missing, conversion fails, or the bundle disagrees with the
            model.
        ValueError: if `quantization` or `inputs` is unknown.
        OSError: if the file cannot be written.
    """
    for name, value, known in (
        ("quantization", quantization, get_args(Quantization)),
        ("inputs", inputs, get_args(Inputs)),
    ):
        if value not in known:
            raise ValueError(f"`{name}` must be one of {known}. Received: {value!r}")
    tower, tagger = model.audio_tower, None
    if isinstance(tower, TaggerTower):
        inputs, tagger = "embeddings", tower.content
    elif inputs == "embeddings":
        raise ValueError('`inputs` may be "embeddings" only for a model with a TaggerTower')
    model.refresh_labels()
    if clips is None:
        clips = _test_signals(model.front_end.window_samples, model.front_end.sample_rate_hz)
    flatbuffer = _convert(model, quantization, inputs)
    contract = BundleContract(
        front_end=model.front_end,
        inputs=inputs,
        labels=model.labels,
        prompts=model.prompts,
        embedding_dim=model.audio_tower.embedding_dim,
        logit_scale=_logit_scale(model),
        logit_bias=_logit_bias(model),
        exclusive=model.exclusive,
        quantization=quantization,
        training=training or {},
        licence=licence,
        tagger=tower.contract if isinstance(tower, TaggerTower) else None,
    )
    contract = replace(contract, probe=measure_probe(flatbuffer, contract, tagger))
    with tempfile.TemporaryDirectory() as directory:
        candidate = Path(directory) / "candidate.tflite"
        write_bundle(candidate, flatbuffer, contract, tagger)
        parity = _compare(model, candidate, clips)
    parity["delegate_partitions"] = _delegate_partitions(flatbuffer)
    _check(parity, quantization)
    contract = replace(contract, parity=parity)
    write_bundle(path, flatbuffer, contract, tagger)
    return contract


def _convert(model: SemanticAC, quantization: Quantization, inputs: Inputs) -> bytes:
    """Convert to a flatbuffer, in a child process unless Keras runs on TensorFlow."""
    if importlib.util.find_spec("tensorflow") is None:
        raise ExportError("export needs TensorFlow: pip install tensorflow")
    if keras.backend.backend() == "tensorflow":
        return _convert_here(model, quantization, inputs)
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory) / "model.keras", Path(directory) / "model.tflite"
        model.save(source)
        _run_child([str(source), str(target), quantization, inputs])
        return target.read_bytes()


def _run_child(arguments: list[str]) -> None:
    """Run `_main` on TensorFlow, in a child process that does not outlive this one."""
    # The system closes the pipe's other end when this process ends, however it does.
    watched, held = os.pipe()
    try:
        child = subprocess.run(
            [sys.executable, "-m", "semanticac_keras.export", *arguments, "--parent-pipe"],
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""},
            stdin=watched,
            capture_output=True,
            text=True,
        )
    finally:
        os.close(watched)
        os.close(held)
    if child.returncode:
        reason = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise ExportError(f"conversion failed in the TensorFlow process: {reason}")


def _convert_here(model: SemanticAC, quantization: Quantization, inputs: Inputs) -> bytes:
    import tensorflow as tf

    tower = _float32_tower(model.audio_tower, "dft")
    if isinstance(tower.encoder, HTSATEncoder):
        fold_layer_norms(tower.encoder)
    labels, scale, bias = _label_matrix(model), _logit_scale(model), _logit_bias(model)
    front_end = model.front_end
    shape: tuple[int, ...] = (1, front_end.window_samples)
    if inputs == "log_mel":
        shape = (1, front_end.num_frames, front_end.num_mels)
    elif isinstance(tower, TaggerTower):
        shape = (1, tower.encoder.num_windows, tower.encoder.output_dim)

    def serve(inputs):
        embedding = tower(inputs, training=False)
        cosines = tf.matmul(embedding, tf.constant(labels))
        logits = cosines * scale + bias
        scores = tf.nn.softmax(logits) if model.exclusive else tf.sigmoid(logits)
        return {"scores": scores, "cosines": cosines, "embedding": embedding}

    return to_flatbuffer(serve, tower.variables, shape, quantization)


def to_flatbuffer(
    serve: Callable[[Any], Any],
    variables: Sequence[keras.Variable],
    shape: tuple[int, ...],
    quantization: Quantization = "float32",
) -> bytes:
    """Convert a function to a TFLite graph of builtin operators.

    Args:
        serve: function of one float32 tensor, built of Keras layers and operations.
        variables: the layers' variables, which become constants.
        shape: shape of the input tensor, batch size included.
        quantization: see `export_tflite`.

    Returns:
        The flatbuffer.

    Raises:
        ExportError: if conversion fails, or Keras does not run on TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "conversion needs Keras on TensorFlow: set KERAS_BACKEND=tensorflow. "
            f"Received: {keras.backend.backend()}"
        )
    import tensorflow as tf

    # Constants instead of variables: the converter folds operations that depend on weights alone.
    values = [(variable, ops.convert_to_numpy(variable)) for variable in variables]

    def serve_constants(inputs):
        constants = [(variable, tf.constant(value)) for variable, value in values]
        with keras.StatelessScope(state_mapping=constants):
            return serve(inputs)

    signature = tf.TensorSpec(shape, tf.float32, name="inputs")
    module = tf.Module()  # the converter names inputs and outputs only for functions of a module
    module.serve = tf.function(serve_constants, input_signature=[signature])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.serve.get_concrete_function()], module
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    try:
        return converter.convert()
    except Exception as error:  # the converter raises many types of its own
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"TensorFlow could not convert the model: {reason}") from error


def _float32_tower(tower: Tower, method: Literal["rfft", "dft"]) -> Tower:
    """Copy a tower in float32; its front end, if it has one, with the given method."""
    parts = []
    for part in (tower.encoder, tower.head):
        copy = type(part).from_config({**part.get_config(), "dtype": "float32"})
        if not copy.built:
            copy.build((None, *tower.encoder.output_grid, tower.encoder.output_dim))
        copy.set_weights(part.get_weights())
        parts.append(copy)
    copy = tower.with_parts(*parts)
    if isinstance(copy, AudioTower):
        copy.log_mel = LogMel(tower.front_end, method)
    return copy


def _compare(model: SemanticAC, bundle: Path, clips) -> dict[str, float]:
    """Measure the largest differences between the Keras model and the edge runtime."""
    windows, _ = model.audio_tower.windows_of(clips)
    scores, embeddings = _predict_in_float32(model, windows)
    classifier = StreamingClassifier(Interpreter(bundle))
    results = []
    for window in windows:
        results += classifier.push(window) + classifier.flush()
    cosines = embeddings @ _label_matrix(model)
    device_scores = np.stack([result.scores for result in results])
    device_cosines = np.stack([result.cosines for result in results])
    device_embeddings = np.stack([result.embedding for result in results])
    return {
        "clips": float(len(windows)),
        "max_score_difference": float(np.abs(scores - device_scores).max()),
        "max_cosine_difference": float(np.abs(cosines - device_cosines).max()),
        "min_cosine": float(np.sum(embeddings * device_embeddings, axis=-1).min()),
        "same_label_share": _same_label_share(scores, device_scores, model.exclusive),
    }


def _same_label_share(scores: FloatArray, others: FloatArray, exclusive: bool) -> float:
    """Share of windows (n, K) with the same best label or, if independent, the same labels."""
    if exclusive:
        return float(np.mean(scores.argmax(1) == others.argmax(1)))
    return float(np.mean(((scores >= 0.5) == (others >= 0.5)).all(1)))


def _predict_in_float32(model: SemanticAC, windows) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, K) and embeddings (n, C) of windows, from a float32 copy if needed."""
    if model.audio_tower.encoder.compute_dtype == "float32":
        return model.predict(windows, verbose=0), model.encode_audio(windows)
    tower = _float32_tower(model.audio_tower, "rfft")
    embeddings = tower.predict(tower.inputs_of(windows), verbose=0)
    logits = embeddings @ _label_matrix(model) * _logit_scale(model) + _logit_bias(model)
    return model.scores(logits), embeddings


def _label_matrix(model: SemanticAC) -> FloatArray:
    """Transposed label embeddings, (C, K)."""
    return ops.convert_to_numpy(model.label_embeddings).T


def _logit_scale(model: SemanticAC) -> float:
    """Factor from cosines to logits."""
    return float(np.exp(ops.convert_to_numpy(model.logit_scale)))


def _logit_bias(model: SemanticAC) -> float:
    """Summand of the logits; 0 if the scores are exclusive."""
    return 0.0 if model.logit_bias is None else float(ops.convert_to_numpy(model.logit_bias))


def _check(parity: dict[str, float], quantization: Quantization) -> None:
    limit = MAX_SCORE_DIFFERENCE[quantization]
    # `not <=` so that NaN fails as well.
    if not parity["max_score_difference"] <= limit or not parity["min_cosine"] >= MIN_COSINE:
        raise ExportError(
            f"the {quantization} bundle disagrees with the Keras model: largest score difference "
            f"{parity['max_score_difference']:.2g} (limit {limit}), smallest cosine of the "
            f"embeddings {parity['min_cosine']:.4f} (limit {MIN_COSINE})"
        )
    if parity["delegate_partitions"] != 1:
        raise ExportError(
            "the graph must run in one CPU delegate partition. "
            f"Received: {parity['delegate_partitions']:.0f}; an operator is not supported"
        )


def _delegate_partitions(flatbuffer: bytes) -> float:
    """Count the partitions that XNNPACK runs; raise on Flex operators."""
    from ai_edge_litert.interpreter import Interpreter as LiteRT

    interpreter = LiteRT(model_content=flatbuffer, num_threads=1)
    interpreter.allocate_tensors()
    names = [operator["op_name"] for operator in interpreter._get_ops_details()]
    if flex := sorted({name for name in names if name.startswith("Flex")}):
        raise ExportError(f"the graph must have builtin operators only. Received: {flex}")
    return float(names.count("DELEGATE"))


def _test_signals(num_samples: int, sample_rate_hz: int) -> FloatArray:
    """Noise, a chirp, clicks and silence, float32 (4, num_samples)."""
    rng = np.random.default_rng(0)
    seconds = np.arange(num_samples) / sample_rate_hz
    noise = 0.1 * rng.standard_normal(num_samples)
    chirp = 0.5 * np.sin(2 * np.pi * (200 + 0.2 * sample_rate_hz * seconds / seconds[-1]) * seconds)
    clicks = noise * (np.arange(num_samples) % (sample_rate_hz // 2) < sample_rate_hz // 50)
    return np.stack([noise, chirp, clicks, np.zeros(num_samples)]).astype(np.float32)


def _main() -> None:
    """Convert a saved model: entry point of the child process of `_run_child`."""
    parser = argparse.ArgumentParser()
    for name in ("source", "target", "quantization", "inputs"):
        parser.add_argument(name)
    parser.add_argument("--parent-pipe", action="store_true", help="exit at the end of stdin")
    arguments = parser.parse_args()
    if arguments.parent_pipe:
        threading.Thread(target=_exit_at_the_end_of_stdin, daemon=True).start()
    model = keras.saving.load_model(arguments.source, compile=False)
    flatbuffer = _convert_here(model, arguments.quantization, arguments.inputs)
    with replacing(arguments.target) as temporary:
        temporary.write_bytes(flatbuffer)


def _exit_at_the_end_of_stdin() -> None:
    # Not `sys.stdin`, whose lock would block the interpreter's exit.
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    _main()
