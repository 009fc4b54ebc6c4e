import itertools

import keras
import numpy as np
import pytest
import soundfile
from keras import ops

from edge.inference.frontend import log_mel
from semanticac_keras import ByteTokenizer, SemanticAC, TextEncoder, load_audio
from semanticac_keras.losses import BATCH_TARGETS, TARGETS
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
@pytest.mark.parametrize("targets", TARGETS)
def test_training_generalises_and_reloads(nano, clips, targets, tmp_path):
    model = build(nano, targets=targets)
    # Keras would create "accuracy" while it traces the step, and then trace it again.
    metrics = [keras.metrics.SparseCategoricalAccuracy("accuracy")]
    compile_model(model, keras.optimizers.Lion(0.002), run_eagerly=False, metrics=metrics)
    history = model.fit(*clips, batch_size=12, epochs=20, verbose=0).history
    # A batch of 12 has four clips of each label, so the batch forms cannot fall far below log 4.
    floor = np.log(4) if targets in BATCH_TARGETS else 0.0
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


def test_independent_scores_are_the_sigmoid_of_scaled_and_shifted_cosines(nano, clips, tmp_path):
    model = build(nano, targets="sigmoid")
    cosines = model.encode_audio(clips[0]) @ model.encode_text(model.prompts).T
    expected = 1 / (1 + np.exp(np.log(3) - 10 * cosines))
    np.testing.assert_allclose(predict(model, clips[0]), expected, atol=1e-4)
    model.logit_bias.assign(-200.0)
    np.testing.assert_array_less(predict(model, clips[0]), 1e-30)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(predict(loaded, clips[0]), predict(model, clips[0]))
    assert not loaded.exclusive


def two_at_once(num_clips, seed):
    """A hum, a whistle, both, or neither: waveforms (n, 5120) and targets (n, 3)."""
    waveforms, classes = make_clips(3 * num_clips, 5120, 8000, seed)
    targets = np.zeros((num_clips, 3), np.float32)
    targets[:, :2] = (np.arange(num_clips)[:, None] >> [0, 1]) % 2
    noise = 0.003 * np.random.default_rng(seed).standard_normal((num_clips, 5120))
    hums, whistles = (waveforms[classes == label] for label in (0, 1))
    mixed = targets[:, :1] * hums + targets[:, 1:2] * whistles + noise
    return mixed.astype(np.float32), targets


@pytest.mark.slow
def test_independent_scores_find_two_sounds_at_once_and_none(nano):
    model = build(nano, targets="sigmoid")
    compile_model(model, keras.optimizers.Lion(0.003), run_eagerly=False, metrics=())
    model.fit(*two_at_once(48, seed=0), batch_size=12, epochs=25, verbose=0)
    unseen, targets = two_at_once(32, seed=1)
    assert (predict(model, unseen).round() == targets).mean() > 0.95


def test_one_label_suffices_where_labels_are_independent(nano, clips):
    model = SemanticAC.from_preset(nano, ["whistle"], targets="sigmoid")
    model.run_eagerly = EAGER
    loss = model.evaluate(clips[0], (clips[1] == 1)[:, None].astype(np.float32), verbose=0)
    scores = predict(model, clips[0])[:, 0]
    targets = clips[1] == 1
    expected = -np.log(np.where(targets, scores, 1 - scores)).mean()
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("targets", "middle"), [("prototype", 1 / 3), ("sigmoid", 1 / 4)])
def test_label_smoothing_moves_targets_towards_the_score_of_knowing_nothing(nano, targets, middle):
    model = build(nano, targets=targets, label_smoothing=0.3)
    y = np.array([[1, 0, 0], [0, 0, 1]], np.float32)
    logits = np.array([[2, -1, 0], [1, 0, -3]], np.float32)

    def loss(y, **options):
        result = model.compute_loss(
            y=ops.convert_to_tensor(y), y_pred=ops.convert_to_tensor(logits), **options
        )
        return float(ops.convert_to_numpy(result))

    smoothed = 0.7 * y + 0.3 * middle
    assert loss(y) == pytest.approx(loss(smoothed, training=False), rel=1e-5)
    assert loss(y) != pytest.approx(loss(y, training=False))


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
        ([np.full(9, 1e30)], r"waveform 0 must be in \[-1, 1\]. Received: samples up to 1e\+30"),
        ([np.full(9, -3e4)], "Received: samples up to 30000"),
        (np.zeros(5120, np.float32), r"shape \(5120,\); a single waveform goes in a list"),
        (np.zeros((2, 52, 16), np.int32), "inputs must be float"),
    ],
)
def test_invalid_waveforms_are_rejected(untrained, waveforms, message):
    with pytest.raises(ValueError, match=message):
        predict(untrained, waveforms)


@pytest.fixture
def files(clips, tmp_path):
    """Paths of the first clips as files: mono, and stereo at twice the rate."""
    paths = [tmp_path / "mono.wav", tmp_path / "stereo.flac"]
    soundfile.write(paths[0], clips[0][0], 8000, subtype="FLOAT")
    soundfile.write(paths[1], np.repeat(np.repeat(clips[0][1], 2)[:, None], 2, 1), 16_000)
    return paths


def test_a_failure_while_predicting_keeps_the_weights(untrained, clips):
    before = predict(untrained, clips[0][:2])
    wrong = np.zeros((2, 52, 15), np.float32)  # found when the first batch reaches the model
    for use in (untrained.predict, untrained.encode_audio):
        with pytest.raises(ValueError, match="15"):
            use(wrong)
        np.testing.assert_array_equal(predict(untrained, clips[0][:2]), before)
    with pytest.raises(ValueError, match="15"):
        untrained.evaluate(wrong, np.array([0, 1]), verbose=0)
    np.testing.assert_array_equal(predict(untrained, clips[0][:2]), before)


def test_files_and_waveforms_mix(untrained, clips, files, monkeypatch):
    model, rate = untrained, untrained.front_end.sample_rate_hz
    waveforms = [load_audio(path, rate) for path in files]
    mixed = [str(files[0]), clips[0][2], files[1]]
    expected = predict(model, [waveforms[0], clips[0][2], waveforms[1]])
    np.testing.assert_allclose(predict(model, mixed), expected, atol=1e-6)
    assert np.abs(waveforms[0] - clips[0][0]).max() == 0
    labels = np.array([0, 1])
    np.testing.assert_allclose(
        model.evaluate(files, labels, verbose=0),
        model.evaluate(waveforms, labels, verbose=0),
        rtol=1e-6,
    )
    monkeypatch.setattr("semanticac_keras.inputs._FILES_AT_ONCE", 2)
    np.testing.assert_allclose(predict(model, mixed), expected, atol=1e-6)
    vectors = model.encode_audio([waveforms[0], clips[0][2], waveforms[1]])
    np.testing.assert_allclose(model.encode_audio(mixed), vectors, atol=1e-6)


def test_wrong_files_are_rejected(untrained, files):
    with pytest.raises(ValueError, match=r"expected a list of files. Received: one path, '.*wav'"):
        predict(untrained, str(files[0]))
    with pytest.raises(ValueError, match=r"absent\.wav: missing"):
        predict(untrained, [*files, files[0].with_name("absent.wav")])


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 5120), np.int16), [0, 1], "inputs must be float"),
        (np.zeros((2, 5120), np.float32), [0, -1], r"from 0 to 2. Received: \[-1\]"),
        (np.zeros((2, 52, 16), np.float32), [3, 0], r"from 0 to 2. Received: \[3\]"),
        (np.zeros((2, 5120), np.float32), np.eye(2), r"label shares \(B, 3\)"),
        (np.zeros((2, 5120), np.float32), np.full((2, 3), np.nan), "must be finite"),
        (np.zeros((2, 5120), np.float32), np.ones((2, 3)), "sum to 1.* use targets=.sigmoid"),
        (np.zeros((2, 5120), np.float32), [[2, -1, 0]] * 2, r"in \[0, 1\]. Received: from -1 to 2"),
        ([np.zeros(100, np.float32)] * 2, [0], "a label for each of 2 waveforms. Received: 1"),
        (np.full((2, 5120), np.nan, np.float32), [0, 1], "waveforms must be finite"),
    ],
)
def test_invalid_examples_are_rejected(untrained, method, x, y, message):
    with pytest.raises(ValueError, match=message):
        getattr(untrained, method)(x, np.asarray(y), verbose=0)


@pytest.mark.slow
def test_a_dataset_with_a_label_that_does_not_exist_ends_training(nano, clips):
    model = build(nano)
    labels = np.where(np.arange(24) == 20, 3, clips[1])
    batches = ((clips[0][i : i + 8], labels[i : i + 8]) for i in itertools.cycle((0, 8, 16)))
    with pytest.raises(ValueError, match=r"the loss was nan in epoch 1\. Labels must be"):
        model.fit(batches, steps_per_epoch=3, epochs=2, verbose=0, shuffle=False)


@pytest.mark.slow
def test_training_and_evaluation_take_waveforms_of_any_length(nano, clips):
    model = build(nano)
    waveforms = [np.concatenate([clips[0][0], clips[0][3]]), clips[0][1][:2000], clips[0][2]]
    labels, weights = np.array([0, 1, 2]), np.array([0.5, 1.0, 2.0], np.float32)
    windows = np.stack([*waveforms[0].reshape(2, -1), np.resize(waveforms[1], 5120), clips[0][2]])
    expected = model.evaluate(
        windows, np.array([0, 0, 1, 2]), sample_weight=weights[[0, 0, 1, 2]], verbose=0
    )
    found = model.evaluate(waveforms, labels, sample_weight=weights, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    data = (waveforms, labels)
    history = model.fit(*data, epochs=1, verbose=0, validation_data=data).history
    assert np.isfinite(history["val_loss"]).all()


def test_a_loss_of_compile_is_rejected(micro, clips):
    model = SemanticAC.from_preset(micro, LABELS)
    model.compile("sgd", loss="nonsense")
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=r"has its own loss.*Received: 'nonsense'"):
            method(*clips, verbose=0)


def test_loaded_weights_keep_the_order_of_labels(micro, clips, tmp_path):
    model = SemanticAC.from_preset(micro, LABELS)
    model.save_weights(tmp_path / "w.weights.h5")
    other = SemanticAC.from_preset(micro, LABELS[::-1])
    other.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_allclose(
        predict(other, clips[0][:2])[:, ::-1], predict(model, clips[0][:2]), atol=1e-5
    )


def test_changed_text_weights_renew_the_labels(micro, clips):
    model = SemanticAC.from_preset(micro, LABELS)
    x, labels = clips[0][:4], clips[1][:4]
    for use in (lambda: predict(model, x), lambda: model.evaluate(x, labels, verbose=0)):
        weight = model.text_encoder.trainable_variables[0]
        weight.assign(ops.flip(weight, axis=0))
        weight.assign(1.5 * weight)
        use()
        np.testing.assert_allclose(
            ops.convert_to_numpy(model.label_embeddings), bake(model), atol=1e-6
        )


def test_creating_a_model_from_a_config_leaves_the_config(untrained):
    for part in (untrained, untrained.audio_tower):
        config = part.get_config()
        before = {name: type(value) for name, value in config.items()}
        type(part).from_config(config)
        assert {name: type(value) for name, value in config.items()} == before


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


TEXTS = {LABELS[0]: ["a saw", "a drill", "a mill"], LABELS[2]: "static"}


def average(model):
    """Vectors of `TEXTS`, computed by the text encoder."""
    names = ["a saw", "a drill", "a mill", LABELS[1], "static"]
    vectors = model.encode_text([f"an audio clip of {name}" for name in names])
    mean = vectors[:3].sum(axis=0)
    return np.stack([mean / np.linalg.norm(mean), vectors[3], vectors[4]])


def test_the_vector_of_several_texts_is_their_mean_scaled_to_unit_length(micro):
    model = build(micro, label_texts=TEXTS)
    expected = average(model)
    np.testing.assert_allclose(ops.convert_to_numpy(model.label_embeddings), expected, atol=1e-6)
    assert model.label_texts[LABELS[0]] == ("a saw", "a drill", "a mill")
    assert model.prompts == (
        "an audio clip of a saw; an audio clip of a drill; an audio clip of a mill",
        f"an audio clip of {LABELS[1]}",
        "an audio clip of static",
    )
    audio = np.eye(2, 12, dtype=np.float32)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model.compare(audio, training=True)),
        audio @ expected.T / 0.07,
        atol=1e-4,
    )
    model.set_labels(LABELS)
    np.testing.assert_allclose(ops.convert_to_numpy(model.label_embeddings), bake(model), atol=1e-6)
    with pytest.raises(ValueError, match=r"and so must their texts.* 'a saw' and 'A Saw'"):
        model.set_labels(LABELS, label_texts={LABELS[0]: ["a saw", "A Saw"]})


@pytest.mark.slow
def test_several_texts_of_a_label_are_trained_and_saved(nano, clips, tmp_path):
    model = build(nano, label_texts=TEXTS)
    before = ops.convert_to_numpy(model.label_embeddings)
    model.fit(*clips, epochs=1, verbose=0)
    trained = ops.convert_to_numpy(model.label_embeddings)
    assert np.abs(trained - before).max() > 1e-4
    np.testing.assert_allclose(trained, average(model), atol=1e-5)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert (loaded.label_texts, loaded.prompts) == (model.label_texts, model.prompts)
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded.label_embeddings), trained)
    loaded.bake_labels()
    np.testing.assert_allclose(ops.convert_to_numpy(loaded.label_embeddings), trained, atol=1e-6)


def test_a_training_step_is_traced_again_after_a_change_of_the_texts(untrained):
    untrained.make_train_function()
    untrained.set_labels(LABELS)
    assert untrained.train_function is None


def test_invalid_labels_keep_the_current_ones(untrained):
    model = untrained
    for labels in (["a", "a"], [], ["x" * 80], "cat", ["Dog", "cat", "dog"]):
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
