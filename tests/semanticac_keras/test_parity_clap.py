"""`SemanticAC.from_pretrained` against Hugging Face's CLAP, from both publishers' files."""

import shutil

import keras
import numpy as np
import pytest

from semanticac_keras import SemanticAC, export_tflite

# First, because the modules of helpers are skipped without these as well.
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from tests.semanticac_keras.test_parity_audio import as_htsat  # noqa: E402
from tests.semanticac_keras.test_parity_bert import perturb, write_byte_pairs  # noqa: E402

LABELS = ("dog", "the sea", "rain on a roof", "é")
# Shares of the spread of the logits.
TOLERANCE = 1e-5  # float32
WAVEFORM_TOLERANCE = 1e-3  # the reference computes its log-mel in float64
EXPORTED_TOLERANCE = 1e-4
# CLAP's own geometry, with few channels; LAION's code has 64 channels to a head of its text tower.
AUDIO = {
    "patch_embeds_hidden_size": 16,
    "depths": [2, 1],
    "num_attention_heads": [2, 4],
    "num_hidden_layers": 2,
    "hidden_size": 32,
}
TEXT = {
    "vocab_size": 300,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 40,
    "layer_norm_eps": 1e-5,
}


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    config = transformers.ClapConfig(text_config=TEXT, audio_config=AUDIO, projection_dim=24)
    model = transformers.ClapModel(config).eval()
    perturb(model)
    generator = torch.Generator().manual_seed(1)
    norm = model.audio_model.audio_encoder.batch_norm
    with torch.no_grad():
        model.logit_scale_a.fill_(2.9)
        model.logit_scale_t.fill_(1.7)
        norm.running_mean += 5 * torch.randn(64, generator=generator) - 30
        norm.running_var += 100 * torch.rand(64, generator=generator)
    return model


@pytest.fixture(scope="module")
def extractor():
    return transformers.ClapFeatureExtractor(
        frequency_min=50, truncation="rand_trunc", padding="repeatpad"
    )


@pytest.fixture(scope="module")
def published(reference, extractor, tmp_path_factory):
    """Directory of a model as Hugging Face publishes it."""
    directory = tmp_path_factory.mktemp("published")
    write_byte_pairs(directory)
    reference.save_pretrained(directory)
    extractor.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def model(published):
    return SemanticAC.from_pretrained(published, LABELS)


def test_logits_of_log_mels_are_the_reference_s(model, reference, published):
    log_mels = random_log_mels()
    expected = expected_logits(reference, published, log_mels)
    assert spread_error("log-mels", model(log_mels), expected) <= TOLERANCE


@pytest.mark.parametrize("seconds", [10.0, 3.0])
def test_logits_of_waveforms_are_the_reference_s(seconds, model, reference, published, extractor):
    waveforms = random_waveforms(seconds)
    features = extractor(list(waveforms), sampling_rate=48_000, return_tensors="np")
    expected = expected_logits(reference, published, features["input_features"][:, 0])
    windows, _ = model.audio_tower.windows_of(waveforms)
    assert spread_error(f"{seconds} s", model(windows), expected) <= WAVEFORM_TOLERANCE


@pytest.mark.parametrize("module", ["module.", ""])
def test_laion_s_file_gives_the_reference_s_logits(module, reference, published, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(published / name, tmp_path)
    state = {f"{module}{key}": value for key, value in as_laion(reference).items()}
    torch.save({"epoch": 3, "name": "x", "state_dict": state}, tmp_path / "best.pt")
    model = SemanticAC.from_pretrained(tmp_path / "best.pt", LABELS)
    log_mels = random_log_mels()
    expected = expected_logits(reference, published, log_mels)
    assert spread_error(f"LAION, {module!r}", model(log_mels), expected) <= TOLERANCE


@pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning", "ignore::DeprecationWarning")
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="every backend exports the same graph"
)
@pytest.mark.slow
def test_exported_logits_are_the_reference_s(model, reference, published, tmp_path):
    from edge.inference.interpreter import Interpreter

    path = tmp_path / "clap.tflite"
    contract = export_tflite(model, path, clips=random_waveforms(10.0))
    assert contract.prompts[0] == "This is a sound of dog."
    log_mels = random_log_mels()
    expected = expected_logits(reference, published, log_mels)
    interpreter = Interpreter(path)
    cosines = [interpreter.run(each).cosines.copy() for each in log_mels]
    logits = np.stack(cosines) * contract.logit_scale
    assert spread_error("float32 TFLite", logits, expected) <= EXPORTED_TOLERANCE


def test_reloaded_model_predicts_the_same(model, tmp_path):
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    waveforms = list(random_waveforms(3.0))
    probabilities = model.predict(waveforms, verbose=0)
    np.testing.assert_allclose(loaded.predict(waveforms, verbose=0), probabilities, atol=1e-6)
    loaded.set_labels(["cat", "dog"])
    assert loaded.prompts == ("This is a sound of cat.", "This is a sound of dog.")


def random_log_mels():
    return np.random.default_rng(0).normal(-30.0, 10.0, (3, 1001, 64)).astype(np.float32)


def random_waveforms(seconds):
    rng = np.random.default_rng(0)
    time = np.arange(int(seconds * 48_000)) / 48_000
    tones = [np.sin(2 * np.pi * (hz + 300 * time) * time) for hz in (200, 1000, 4000)]
    noise = rng.normal(size=(3, time.size))
    return (0.3 * np.stack(tones) + 0.05 * noise).astype(np.float32)


def expected_logits(reference, directory, log_mels):
    tokenizer = transformers.RobertaTokenizerFast.from_pretrained(directory)
    texts = [f"This is a sound of {label}." for label in LABELS]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    features = torch.from_numpy(np.asarray(log_mels, np.float32))[:, None]
    with torch.no_grad():
        return reference(input_features=features, **tokens).logits_per_audio.numpy()


def spread_error(name, logits, expected):
    """Largest error of the logits, as a share of the spread of the reference's."""
    logits = keras.ops.convert_to_numpy(logits)
    assert logits.shape == expected.shape
    spread = expected.max() - expected.min()
    error = np.abs(logits - expected).max() / spread
    print(f"{keras.backend.backend()}: {name}: {error:.1e} of the logits' spread, {spread:.3g}")
    return error


def as_laion(reference):
    """The original code's state dict, with the entries that inference does not use."""
    audio = as_htsat(reference.audio_model)
    state = {f"audio_branch.{key}": value for key, value in audio.items()}
    layers = {"linear1": "0", "linear2": "2"}
    for key, value in reference.state_dict().items():
        part, _, rest = key.partition(".")
        if part == "text_model":
            state[f"text_branch.{rest}"] = value
        elif part.endswith("_projection"):
            layer, _, name = rest.partition(".")
            state[f"{part}.{layers[layer]}.{name}"] = value
        elif part.startswith("logit_scale"):
            state[key] = value
    state["text_branch.embeddings.position_ids"] = torch.arange(40)[None]
    state["audio_transform.sequential.0.weight"] = torch.ones(3, 3)
    state["text_transform.sequential.3.bias"] = torch.ones(3)
    return {key: value.clone() for key, value in state.items()}
