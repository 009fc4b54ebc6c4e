"""`HTSATEncoder` against Hugging Face's CLAP, through a file of every format."""

import re

import keras
import numpy as np
import pytest

from semanticac_keras import (
    AudioTower,
    ByteTokenizer,
    FrontEnd,
    HTSATEncoder,
    SemanticAC,
    TextEncoder,
)
from semanticac_keras.checkpoints import load_audio_checkpoint
from semanticac_keras.export import _convert

litert = pytest.importorskip("ai_edge_litert.interpreter")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")

TOLERANCE = 1e-5  # float32 over the whole encoder; a wrong shift, order or epsilon gives 1e-3 up
EXPORTED_TOLERANCE = 3e-5  # other kernels, another order of summation
SMALL = {
    "spec_size": 64,
    "num_mel_bins": 16,
    "patch_embeds_hidden_size": 16,
    "depths": [2, 2],
    "num_attention_heads": [2, 4],
    "hidden_size": 32,
}

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="every backend exports the same graph"
)


@pytest.fixture(scope="module")
def reference():
    return make_reference(SMALL)


@pytest.fixture
def encoder():
    return HTSATEncoder(
        num_frames=251,
        num_mels=16,
        chunk_frames=64,
        embed_dim=16,
        depths=(2, 2),
        num_heads=(2, 4),
    )


@pytest.mark.parametrize(
    "layout", ["htsat", "htsat-bare", "laion", "laion-module", "clap", "clap-audio"]
)
def test_token_map_is_the_reference_s(layout, reference, encoder, tmp_path):
    path = write(layout, reference, tmp_path)
    load_audio_checkpoint(encoder, path)
    assert max_abs_error(encoder, reference) <= TOLERANCE


@on_tensorflow
def test_exported_token_map_is_the_reference_s(reference, encoder, tmp_path):
    load_audio_checkpoint(encoder, write("htsat", reference, tmp_path))
    assert exported_error(encoder, reference) <= EXPORTED_TOLERANCE


@pytest.mark.slow
@on_tensorflow
def test_paper_size_exported_token_map_is_the_reference_s(tmp_path):
    reference = make_reference({})
    encoder = HTSATEncoder.from_preset("base")
    load_audio_checkpoint(encoder, write("htsat", reference, tmp_path))
    assert exported_error(encoder, reference) <= EXPORTED_TOLERANCE


@pytest.mark.slow
def test_paper_size_token_map_is_the_reference_s(tmp_path):
    reference = make_reference({})
    encoder = HTSATEncoder.from_preset("base")
    load_audio_checkpoint(encoder, write("htsat", reference, tmp_path))
    error = max_abs_error(encoder, reference)
    parameters = sum(int(np.prod(weight.shape)) for weight in encoder.trainable_variables)
    assert parameters == sum(p.numel() for p in reference.parameters())
    print(f"paper size, {parameters:,} parameters")
    assert error <= TOLERANCE


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_files_are_read_exactly(dtype, reference, encoder, tmp_path):
    state = {key: value.to(getattr(torch, dtype)) for key, value in tensors(reference).items()}
    state = {key: value for key, value in state.items() if "index" not in key}
    path = tmp_path / "half.safetensors"
    safetensors_torch.save_file(state, path)
    load_audio_checkpoint(encoder, path)
    expected = state["audio_encoder.layers.1.blocks.1.output.dense.weight"].float().numpy().T
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(encoder.stages[-1].fc2.kernel.value), expected
    )


def make_reference(config):
    """A CLAP audio model with perturbed statistics, biases and norms."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = transformers.ClapAudioModel(transformers.ClapAudioConfig(**config)).eval()

    def noise(tensor):
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 or "bias_table" in name:
                parameter += 0.1 * noise(parameter)
        norm = model.audio_encoder.batch_norm
        norm.running_mean += 5 * noise(norm.running_mean) - 30
        norm.running_var += 100 * torch.rand(norm.running_var.shape, generator=generator)
    return model


@keras.saving.register_keras_serializable("tests")
class Flatten(keras.layers.Layer):
    """Head that returns the flattened token map as the embedding."""

    def __init__(self, output_dim, **kwargs):
        super().__init__(**kwargs)
        self.output_dim = output_dim

    def call(self, x, training=False):
        return keras.ops.reshape(x, (-1, self.output_dim))

    def get_config(self):
        return {**super().get_config(), "output_dim": self.output_dim}


def exported_error(encoder, reference):
    """Max-abs error of the token map that the float32 TFLite graph computes."""
    rows, columns = encoder.output_grid
    size = rows * columns * encoder.output_dim
    window_seconds = (encoder.num_frames - 1) / 100
    model = SemanticAC(
        AudioTower(
            FrontEnd(num_mels=encoder.num_mels, window_seconds=window_seconds),
            encoder,
            Flatten(size),
        ),
        TextEncoder(258, 64, 8, 1, 1, output_dim=size),
        ByteTokenizer(64),
        labels=["a", "b"],
    )
    interpreter = litert.Interpreter(model_content=_convert(model, "float32", "log_mel"))
    interpreter.allocate_tensors()
    log_mels = random_log_mels(encoder)[:1]
    unit = interpreter.get_signature_runner()(inputs=log_mels)["embedding"].copy()
    expected = expected_map(encoder, reference, log_mels).reshape(-1)
    # The graph normalises the map as an embedding.
    error = np.abs(unit[0] * np.linalg.norm(expected) - expected).max()
    print(f"float32 TFLite: token map of {size} numbers, max abs error {error:.1e}")
    return error


def random_log_mels(encoder):
    shape = (2, encoder.num_frames, encoder.num_mels)
    return np.random.default_rng(0).normal(-30.0, 10.0, shape).astype(np.float32)


def expected_map(encoder, reference, log_mels):
    """The reference's token map in our order of axes, (B, chunks * bands, columns, C)."""
    with torch.no_grad():
        strip = reference(torch.from_numpy(log_mels)[:, None]).last_hidden_state.numpy()
    batch, channels, bands, _ = strip.shape  # (B, C, bands, chunks * columns)
    expected = strip.reshape(batch, channels, bands, encoder.num_chunks, -1)
    return expected.transpose(0, 3, 2, 4, 1).reshape(batch, -1, expected.shape[-1], channels)


def max_abs_error(encoder, reference):
    log_mels = random_log_mels(encoder)
    expected = expected_map(encoder, reference, log_mels)
    tokens = keras.ops.convert_to_numpy(encoder(log_mels))
    assert tokens.shape == expected.shape
    error = np.abs(tokens - expected).max()
    print(f"{keras.backend.backend()}: token map {tokens.shape}, max abs error {error:.1e}")
    return error


def tensors(model):
    return {key: value.clone().contiguous() for key, value in model.state_dict().items()}


def write(layout, reference, directory):
    """Write the reference's weights in a publisher's layout."""
    if layout == "clap-audio":
        path = directory / "model.safetensors"
        safetensors_torch.save_file(tensors(reference), path)
    elif layout == "clap":
        rest = {"text_model.embeddings.word_embeddings.weight": torch.ones(3, 2)}
        rest |= {"logit_scale_a": torch.ones([]), "audio_projection.linear1.bias": torch.ones(2)}
        state = {f"audio_model.{key}": value for key, value in tensors(reference).items()}
        path = directory / "model.safetensors"
        safetensors_torch.save_file(state | rest, path, metadata={"format": "pt"})
    elif layout == "htsat-bare":
        path = directory / "model.pt"
        torch.save(as_htsat(reference), path)
    elif layout == "htsat":
        state = {f"sed_model.{key}": value for key, value in as_htsat(reference).items()}
        path = directory / "saved.ckpt"
        torch.save({"epoch": 7, "state_dict": state, "lr_schedulers": [{"base_lrs": [1e-3]}]}, path)
    else:
        module = "module." if layout == "laion-module" else ""
        state = {f"{module}audio_branch.{key}": v for key, v in as_htsat(reference).items()}
        state |= {f"{module}logit_scale_a": torch.ones([])}
        state |= {f"{module}text_branch.pooler.dense.bias": torch.ones(4)}
        path = directory / "epoch.pt"
        torch.save({"epoch": 7, "name": "x", "state_dict": state, "optimizer": {}}, path)
    return path


def as_htsat(reference):
    """The original code's state dict: fused qkv, other names, and the buffers it keeps."""
    names = {
        "batch_norm": "bn0",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "attention.self.relative": "attn.relative",
        "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }
    config = reference.config
    state = {}
    old = {key.removeprefix("audio_encoder."): value for key, value in tensors(reference).items()}
    for key, value in old.items():
        if "self.query" in key:
            fused = [old[key.replace("query", part)] for part in ("query", "key", "value")]
            state[key.replace("attention.self.query", "attn.qkv")] = torch.cat(fused)
        elif not re.search("self.(key|value)", key):
            pattern = "|".join(map(re.escape, names))
            state[re.sub(pattern, lambda found: names[found.group()], key, count=1)] = value
    for stage, depth in enumerate(config.depths):
        side = config.spec_size // config.patch_size // 2**stage
        for block in range(1, depth, 2):
            if side > config.window_size:
                mask = shift_mask(side, config.window_size)
                state[f"layers.{stage}.blocks.{block}.attn_mask"] = mask
    state["head.weight"] = torch.ones(5, 5)
    state["tscam_conv.weight"] = torch.ones(5, 4, 2, 3)
    state["spectrogram_extractor.stft.conv_real.weight"] = torch.ones(3, 1, 4)
    state["logmel_extractor.melW"] = torch.ones(3, 2)
    return state


def shift_mask(side, window):
    """Swin's mask: tokens attend only to those in their window before the shift."""
    region = torch.zeros(side, side)
    bounds = (slice(0, side - window), slice(side - window, side - window // 2))
    bounds = (*bounds, slice(side - window // 2, side))
    for number, rows in enumerate(bounds):
        for other, columns in enumerate(bounds):
            region[rows, columns] = 3 * number + other
    windows = region.unfold(0, window, window).unfold(1, window, window).reshape(-1, window**2)
    apart = windows[:, None] != windows[:, :, None]
    return torch.where(apart, -100.0, 0.0)
