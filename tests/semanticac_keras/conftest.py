"""Clips and models at the smallest useful size."""

from dataclasses import replace

import pytest

from tests.clips import LABELS, make_clips


@pytest.fixture
def clips():
    """24 clips of one micro window each, with their classes."""
    return make_clips(24, 5120, 8000)


@pytest.fixture
def nano(monkeypatch):
    """Name of a preset of the micro's input and texts with one block, for tests that train.

    Tracing and eager steps cost by the number of weights; few tests need the micro's two stages.
    """
    from semanticac_keras.presets import PRESETS
    from tests import micro

    shape = {"num_chunks": 1, "chunk_frames": 64, "patch_size": 8, "depths": (1,)}
    encoder = {**micro.PRESET.audio_encoder, **shape, "num_heads": (1,), "drop_path": 0.0}
    monkeypatch.setitem(PRESETS, "nano", replace(micro.PRESET, audio_encoder=encoder))
    return "nano"


@pytest.fixture
def tiny_classifier():
    """`tiny_classifier(head, **options)`: an untrained model of 8 tokens, and its clips.

    For exports where only the head matters: conversion time grows with the encoder.
    """

    import keras

    from semanticac_keras import (
        AudioTower,
        ClassIndex,
        ClassVectors,
        FrontEnd,
        HTSATEncoder,
        SemanticAC,
    )

    def make(head, **options):
        keras.utils.set_random_seed(3)
        encoder = HTSATEncoder(
            num_frames=26,
            num_mels=16,
            num_chunks=1,
            chunk_frames=32,
            patch_size=8,
            embed_dim=8,
            depths=(1,),
            num_heads=(1,),
            window_size=4,
        )
        tower = AudioTower(
            FrontEnd(8000, 256, 100, 16, 50.0, 4000.0, window_seconds=0.32), encoder, head
        )
        vectors = ClassVectors(len(LABELS), head.output_dim)
        model = SemanticAC(tower, vectors, ClassIndex(LABELS), LABELS, "{label}", **options)
        # The export predicts once or twice: tracing would take longer.
        model.run_eagerly = tower.run_eagerly = keras.backend.backend() == "tensorflow"
        return model, make_clips(24, 2560, 8000)[0]

    return make
