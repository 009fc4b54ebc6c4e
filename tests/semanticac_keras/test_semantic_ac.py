import keras
import numpy as np
import pytest
from keras import ops

from edge.inference.frontend import log_mel
from semanticac_keras import ByteTokenizer, SemanticAC, TextEncoder
from semanticac_keras.presets import PRESETS
from semanticac_keras.semantic_ac import MAX_LOG_SCALE
from tests import micro as micro_preset
from tests.clips import LABELS, make_clips

# On TensorFlow, tracing costs as much as about 20 eager steps: shorter runs are eager.
EAGER = keras.backend.backend() == "tensorflow"


def build(micro, **options):
    keras.utils.set_random_seed(1)
    model = SemanticAC.from_preset(micro, LABELS, **options)
    compile_model(model)
    return model


def compile_model(model, optimizer=None, run_eagerly=EAGER, metrics=("accuracy",)):
    optimizer = optimizer or keras.optimizers.SGD(0.03)
    model.compile(optimizer, metrics=list(metrics), run_eagerly=run_eagerly)
    model.audio_tower.run_eagerly = EAGER


def predict(model, x):
    return model.predict(x, verbose=0)


def bake(model):
    """Label embeddings computed by the text encoder."""
    return model.encode_text(model.prompts)


@pytest.fixture(scope="module")
def untrained():
    """A model shared by tests that change nothing in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, micro_preset.NAME, micro_preset.PRESET)
        return build(micro_preset.NAME)


@pytest.mark.slow
@pytest.mark.parametrize("targets", ["diagonal", "multi_positive", "prototype"])
def test_training_generalises_and_reloads(nano, clips, targets, tmp_path):
    model = build(nano, targets=targets)
    # Keras would create "accuracy" while it traces the step, and then trace it again.
    metrics = [keras.metrics.SparseCategoricalAccuracy("accuracy")]
    compile_model(model, keras.optimizers.Lion(0.003), run_eagerly=False, metrics=metrics)
    history = model.fit(*clips, batch_size=12, epochs=20, verbose=0).history
    # A batch of 12 has four clips of each label, so the batch forms cannot fall far below log 4.
    floor = 0.0 if targets == "prototype" else np.log(4)
    assert history["loss"][0] - floor > 3 * (history["loss"][-1] - floor)
    model.run_eagerly = EAGER
    assert model.evaluate(*clips, verbose=0, return_dict=True)["accuracy"] > 0.9
    unseen, classes = make_clips(30, 5120, 8000, seed=1)
    assert (predict(model, unseen).argmax(1) == classes).mean() > 0.9

    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    loaded.run_eagerly = EAGER
    np.testing.assert_array_equal(predict(loaded, clips[0]), predict(model, clips[0]))
    assert (loaded.labels, loaded.prompt, loaded.targets) == (model.labels, model.prompt, targets)
    # The optimiser's state is restored as well.
    loaded.fit(*clips, batch_size=24, epochs=1, verbose=0, shuffle=False)
    assert int(loaded.optimizer.iterations) == 41


@pytest.mark.slow
def test_fit_bakes_the_trained_text_encoder_s_labels(nano, clips):
    model = build(nano)
    before = ops.convert_to_numpy(model.label_embeddings)
    model.fit(*clips, epochs=2, verbose=0, validation_data=clips)
    baked = ops.convert_to_numpy(model.label_embeddings)
    assert np.abs(baked - before).max() > 1e-3
    np.testing.assert_allclose(baked, bake(model), atol=1e-5)


@pytest.mark.slow
def test_a_checkpoint_callback_saves_baked_labels(nano, clips, tmp_path):
    model = build(nano)
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "c.keras")
    model.fit(*clips, epochs=1, verbose=0, callbacks=[saver])
    loaded = keras.saving.load_model(tmp_path / "c.keras")
    np.testing.assert_allclose(
        ops.convert_to_numpy(loaded.label_embeddings), bake(loaded), atol=1e-5
    )


def test_probabilities_are_the_softmax_of_scaled_cosines(untrained, clips):
    model = untrained
    audio, text = model.encode_audio(clips[0]), model.encode_text(model.prompts)
    np.testing.assert_allclose(np.linalg.norm(audio, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=1e-5)
    logits = audio @ text.T / 0.07
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(predict(model, clips[0]), expected, atol=1e-4)


def test_log_mels_and_waveforms_agree(untrained, clips):
    model = untrained
    log_mels = np.stack([log_mel(waveform, model.front_end) for waveform in clips[0]])
    np.testing.assert_allclose(predict(model, log_mels), predict(model, clips[0]), atol=1e-4)


def test_prediction_does_not_depend_on_the_batch(untrained, clips):
    model = untrained
    alone = np.concatenate([predict(model, clip[None]) for clip in clips[0][:5]])
    np.testing.assert_allclose(predict(model, clips[0])[:5], alone, atol=1e-5)


def test_waveforms_of_any_length(untrained, clips):
    model = untrained
    one, two = clips[0][:2]
    short, long = one[:2000], np.concatenate([one, two, one[:100]])
    together = predict(model, [short, long, one])
    assert together.shape == (3, 3)
    repeated = np.concatenate([short, short, short])[:5120]
    np.testing.assert_allclose(together[0], predict(model, repeated[None])[0], atol=1e-5)
    windows = np.stack([one, two, long[-5120:]])
    np.testing.assert_allclose(together[1], predict(model, windows).mean(0), atol=1e-5)
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-5)
    assert predict(model, []).shape == (0, 3)
    assert np.linalg.norm(model.encode_audio([long])[0]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("waveforms", "message"),
    [
        ([np.array([0.0, np.nan], np.float32)], "waveform 0 must be finite"),
        ([np.zeros(9, np.float32), np.zeros(0, np.float32)], "Received for waveform 1"),
        ([np.zeros(9, np.int16)], "must be a float array"),
        ([np.zeros((2, 9), np.float32)], "must be a float array"),
    ],
)
def test_invalid_waveforms_are_rejected(untrained, waveforms, message):
    with pytest.raises(ValueError, match=message):
        predict(untrained, waveforms)


@pytest.mark.slow
def test_labels_can_be_replaced(nano, clips, tmp_path):
    model = build(nano)
    model.fit(*clips, epochs=1, verbose=0)
    audio = model.encode_audio(clips[0])
    model.set_labels(["rain", "dog", "siren", "wind"], "the sound of {label}")
    assert predict(model, clips[0]).shape == (24, 4)
    np.testing.assert_array_equal(model.encode_audio(clips[0]), audio)
    np.testing.assert_allclose(ops.convert_to_numpy(model.label_embeddings), bake(model), atol=1e-6)
    assert len([v for v in model.variables if v.name == "label_embeddings"]) == 1
    model.fit(*clips, epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(predict(loaded, clips[0]), predict(model, clips[0]))


def test_invalid_labels_keep_the_current_ones(untrained):
    model = untrained
    for labels in (["a", "a"], [], ["x" * 80]):
        with pytest.raises(ValueError, match="must"):
            model.set_labels(labels)
    assert model.labels == LABELS


@pytest.mark.slow
def test_logit_scale_is_learned_and_bounded(nano, clips):
    model = build(nano)
    compile_model(model, keras.optimizers.SGD(100.0))
    model.audio_tower.trainable = model.text_encoder.trainable = False
    before = float(ops.convert_to_numpy(model.logit_scale))
    model.fit(*clips, epochs=3, verbose=0)
    assert float(ops.convert_to_numpy(model.logit_scale)) != before
    assert float(ops.convert_to_numpy(model.logit_scale)) <= MAX_LOG_SCALE + 1e-6
    model.logit_scale.assign(10.0)
    model.logit_scale.assign(model.logit_scale.constraint(model.logit_scale))
    assert float(ops.convert_to_numpy(model.logit_scale)) == pytest.approx(np.log(100))


@pytest.mark.slow
def test_frozen_text_encoder_does_not_change(nano, clips):
    model = build(nano)
    model.text_encoder.trainable = False
    compile_model(model)
    before = ops.convert_to_numpy(model.label_embeddings)
    model.fit(*clips, epochs=1, verbose=0)
    np.testing.assert_allclose(ops.convert_to_numpy(model.label_embeddings), before, atol=1e-6)


@pytest.mark.slow
def test_mixed_precision_keeps_sensitive_parts_in_float32(nano, clips):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(nano)
        compile_model(model, keras.optimizers.Lion(0.003))
        history = model.fit(*clips, batch_size=12, epochs=3, verbose=0).history
    finally:
        keras.config.set_dtype_policy(before)
    tower = model.audio_tower
    assert tower.encoder.patch_embed.compute_dtype == "bfloat16"
    assert tower.encoder.mel_norm.compute_dtype == "float32"
    assert keras.backend.standardize_dtype(model.logit_scale.dtype) == "float32"
    assert keras.backend.standardize_dtype(model(clips[0]).dtype) == "float32"
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.slow
def test_training_with_label_shares_and_sample_weights(nano, clips):
    model = build(nano, targets="multi_positive", label_smoothing=0.1)
    shares = np.eye(3, dtype=np.float32)[clips[1]]
    weights = np.linspace(0.1, 1, len(shares)).astype(np.float32)
    history = model.fit(
        clips[0], shares, sample_weight=weights, batch_size=24, epochs=4, verbose=0
    ).history
    assert history["loss"][-1] < history["loss"][0]


def test_inconsistent_arguments_and_inputs_are_rejected(micro, untrained):
    model = untrained
    text_encoder = TextEncoder(258, 64, 16, 1, 2, output_dim=7)
    with pytest.raises(ValueError, match="audio 12, text 7"):
        SemanticAC(model.audio_tower, text_encoder, ByteTokenizer(64), LABELS)
    with pytest.raises(ValueError, match="`label_smoothing` does nothing"):
        SemanticAC.from_preset(micro, LABELS, label_smoothing=0.1)
    with pytest.raises(ValueError, match="must be waveforms"):
        model(np.zeros((2, 3, 4, 5), np.float32))
    with pytest.raises(ValueError, match="must have 5120 samples"):
        model(np.zeros((2, 100), np.float32))
    with pytest.raises(ValueError, match="sequence of texts"):
        model.encode_text("a siren")


@pytest.mark.slow
def test_patch_embedding_replaces_the_stem():
    with_stem, without = (
        SemanticAC.from_preset("small", LABELS, conv_stem=conv_stem).audio_tower.encoder
        for conv_stem in (True, False)
    )
    assert with_stem.stem_channels
    assert not without.stem_channels
    assert with_stem.output_grid == without.output_grid
