"""`TextEncoder` against Hugging Face's CLIP and open_clip, through a file of every format."""

import copy
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest

from semanticac_keras import TextEncoder
from semanticac_keras.checkpoints import CheckpointError, load_text_checkpoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")

TOLERANCE = 1e-5  # float32 over all layers; GELU in place of QuickGELU gives 1e-2
SMALL = {
    "vocabulary_size": 600,
    "width": 64,
    "num_layers": 3,
    "num_heads": 4,
    "output_dim": 48,
}
RN50 = {
    "vocabulary_size": 49_408,
    "width": 512,
    "num_layers": 12,
    "num_heads": 8,
    "output_dim": 1024,
}


@pytest.fixture(scope="module")
def transformer():
    """open_clip's module `transformer`, imported without the package's image dependencies."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None:
        pytest.skip("open_clip_torch is not installed")
    package = ModuleType("open_clip")
    package.__path__ = [str(Path(spec.origin).parent)]
    vision = ModuleType("torchvision.ops.misc")
    vision.FrozenBatchNorm2d = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "open_clip", package)
        patch.setitem(sys.modules, "torchvision.ops.misc", vision)
        yield importlib.import_module("open_clip.transformer")
        for name in [name for name in sys.modules if name.startswith("open_clip.")]:
            del sys.modules[name]


@pytest.mark.parametrize("context_length", [76, 77])
@pytest.mark.parametrize("whole_model", [False, True])
def test_embeddings_are_hugging_face_s(context_length, whole_model, tmp_path):
    reference = make_hugging_face(SMALL)
    state = contiguous(reference)
    if whole_model:
        state |= {"vision_model.post_layernorm.bias": torch.ones(4), "logit_scale": torch.ones([])}
    safetensors_torch.save_file(state, tmp_path / "model.safetensors")
    encoder = TextEncoder(context_length=context_length, **SMALL)
    load_text_checkpoint(encoder, tmp_path / "model.safetensors")
    assert max_abs_error(encoder, lambda ids: reference(ids).text_embeds) <= TOLERANCE


def test_embeddings_are_open_clip_s(transformer, tmp_path):
    reference = make_open_clip(transformer, SMALL)
    state = contiguous(reference)
    state |= {"visual.conv1.weight": torch.ones(4, 3, 2, 2), "logit_scale": torch.ones([])}
    safetensors_torch.save_file(state, tmp_path / "open_clip_model.safetensors")
    encoder = TextEncoder(**SMALL)
    load_text_checkpoint(encoder, tmp_path / "open_clip_model.safetensors")
    assert max_abs_error(encoder, reference) <= TOLERANCE


# PyTorch deprecates the format that OpenAI published.
@pytest.mark.filterwarnings("ignore")
def test_embeddings_from_a_torchscript_archive_are_open_clip_s(transformer, tmp_path):
    reference = make_open_clip(transformer, SMALL).half()  # as published
    model = copy.deepcopy(reference)
    model.visual = torch.nn.Conv2d(3, 4, 2)
    model.logit_scale = torch.nn.Parameter(torch.ones([]))
    del model.context_length, model.vocab_size  # tensors in OpenAI's file
    for name, value in (("input_resolution", 224), ("context_length", 77), ("vocab_size", 600)):
        model.register_buffer(name, torch.tensor(value))
    torch.jit.trace(model, token_ids(600, 77)).save(str(tmp_path / "RN50.pt"))
    encoder = TextEncoder(**SMALL)
    load_text_checkpoint(encoder, tmp_path / "RN50.pt")
    assert max_abs_error(encoder, reference.float()) <= TOLERANCE


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_embeddings_are_keras_hub_s(activation, tmp_path):
    models = pytest.importorskip("keras_hub").models
    keras.utils.set_random_seed(0)
    sizes = {"hidden_dim": 64, "num_layers": 3, "num_heads": 4, "intermediate_dim": 256}
    backbone = models.CLIPBackbone(
        models.CLIPVisionEncoder(patch_size=8, image_shape=(16, 16, 3), **sizes),
        models.CLIPTextEncoder(
            vocabulary_size=600, embedding_dim=64, intermediate_activation=activation, **sizes
        ),
        projection_dim=48,
    )
    for weight in backbone.text_encoder.weights:
        weight.assign(weight + 0.1 * keras.random.normal(weight.shape))
    backbone.save_to_preset(str(tmp_path / "clip"))
    encoder = TextEncoder(**SMALL)
    if activation == "gelu":
        with pytest.raises(CheckpointError, match="trained with gelu"):
            load_text_checkpoint(encoder, f"hub:{tmp_path / 'clip'}")
        return
    load_text_checkpoint(encoder, f"hub:{tmp_path / 'clip'}")

    def reference(ids):
        embeddings = backbone.get_text_embeddings(ids.numpy().astype(np.int32))
        return torch.from_numpy(np.array(keras.ops.convert_to_numpy(embeddings)))

    assert max_abs_error(encoder, reference) <= TOLERANCE


@pytest.mark.slow
def test_paper_size_embeddings_are_hugging_face_s(tmp_path):
    reference = make_hugging_face(RN50)
    safetensors_torch.save_file(contiguous(reference), tmp_path / "model.safetensors")
    encoder = TextEncoder.from_preset("base", context_length=77)
    load_text_checkpoint(encoder, tmp_path / "model.safetensors")
    parameters = sum(int(np.prod(weight.shape)) for weight in encoder.trainable_variables)
    assert parameters == sum(parameter.numel() for parameter in reference.parameters())
    print(f"paper size, {parameters:,} parameters")
    assert max_abs_error(encoder, lambda ids: reference(ids).text_embeds) <= TOLERANCE


def make_hugging_face(sizes):
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=sizes["vocabulary_size"],
        hidden_size=sizes["width"],
        intermediate_size=4 * sizes["width"],
        num_hidden_layers=sizes["num_layers"],
        num_attention_heads=sizes["num_heads"],
        projection_dim=sizes["output_dim"],
        hidden_act="quick_gelu",
        bos_token_id=sizes["vocabulary_size"] - 2,
        eos_token_id=sizes["vocabulary_size"] - 1,
    )
    return perturbed(transformers.CLIPTextModelWithProjection(config))


def make_open_clip(transformer, sizes):
    torch.manual_seed(0)
    return perturbed(
        transformer.TextTransformer(
            vocab_size=sizes["vocabulary_size"],
            width=sizes["width"],
            heads=sizes["num_heads"],
            layers=sizes["num_layers"],
            output_dim=sizes["output_dim"],
            act_layer=transformer.QuickGELU,
        )
    )


def perturbed(model):
    """Perturb the model's biases and norms."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def contiguous(model):
    return {key: value.clone().contiguous() for key, value in model.state_dict().items()}


def token_ids(vocabulary_size, length):
    """Texts of three lengths: start token, words, end token, zeros."""
    rng = np.random.default_rng(0)
    ids = np.zeros((3, length), np.int64)
    for row, words in zip(ids, (1, 7, length - 2), strict=True):
        row[1 : words + 1] = rng.integers(1, vocabulary_size - 2, words)
        row[[0, words + 1]] = vocabulary_size - 2, vocabulary_size - 1
    return torch.from_numpy(ids)


def max_abs_error(encoder, reference):
    ids = token_ids(encoder.vocabulary_size, encoder.context_length)
    padded = torch.nn.functional.pad(ids, (0, 77 - encoder.context_length))
    with torch.no_grad():
        expected = reference(padded).numpy()
    embeddings = keras.ops.convert_to_numpy(encoder(ids.numpy().astype(np.int32)))
    assert embeddings.shape == expected.shape
    error = np.abs(embeddings - expected).max()
    print(f"{keras.backend.backend()}: embeddings {embeddings.shape}, max abs error {error:.1e}")
    return error
