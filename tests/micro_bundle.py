"""A trained micro model and its TFLite bundles."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import pytest

from edge.inference.bundle import BundleContract, Inputs, Quantization
from semanticac_keras import SemanticAC, export_tflite
from semanticac_keras.presets import PRESETS
from tests import micro
from tests.clips import LABELS, make_clips


@dataclass(frozen=True)
class MicroBundle:
    """A trained micro model, and its exports, each converted once.

    Args:
        model: trained on `waveforms`; shared, so do not change it.
        waveforms: float32 (24, 5120) in [-1, 1], one window each.
        classes: int (24,), indices into the labels.
        directory: directory of the bundles.
    """

    model: SemanticAC
    waveforms: np.ndarray
    classes: np.ndarray
    directory: Path
    _contracts: dict[Path, BundleContract] = field(default_factory=dict)

    def export(
        self, quantization: Quantization = "float32", inputs: Inputs = "log_mel"
    ) -> tuple[Path, BundleContract]:
        """Return the bundle's path and the contract that the export returned.

        Args:
            quantization: as of `export_tflite`.
            inputs: as of `export_tflite`.
        """
        path = self.directory / f"{quantization}-{inputs}.tflite"
        if path not in self._contracts:
            with warnings.catch_warnings():
                # TensorFlow's converter announces its own successor.
                warnings.simplefilter("ignore")
                self._contracts[path] = export_tflite(
                    self.model,
                    path,
                    quantization,
                    inputs,
                    self.waveforms,
                    training={"dataset": "x"},
                    licence="CC0",
                )
        return path, self._contracts[path]


def train_micro(directory: Path) -> MicroBundle:
    """Train the micro model for a few steps; export nothing yet."""
    waveforms, classes = make_clips(24, 5120, 8000)
    keras.utils.set_random_seed(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, micro.NAME, micro.PRESET)
        model = SemanticAC.from_preset(micro.NAME, LABELS, targets="prototype")
    model.audio_tower.encoder.mel_norm.moving_mean.assign([-30.0] * 16)
    model.audio_tower.encoder.mel_norm.moving_variance.assign([150.0] * 16)
    # Tracing would take longer than these few steps.
    eager = keras.backend.backend() == "tensorflow"
    model.compile(keras.optimizers.Adam(0.005), metrics=["accuracy"], run_eagerly=eager)
    model.audio_tower.run_eagerly = eager
    model.fit(waveforms, classes, batch_size=24, epochs=4, verbose=0)
    return MicroBundle(model, waveforms, classes, directory)
