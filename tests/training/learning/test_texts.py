import keras
import numpy as np
import pytest

from semanticac_keras import SemanticAC
from training.learning.texts import average_texts, read_texts

LABELS = ("dog bark", "rain")


@pytest.fixture
def texts(tmp_path):
    """`texts(content)`: read the file with this content."""

    def texts(content):
        (tmp_path / "texts.toml").write_text(content)
        return read_texts(tmp_path / "texts.toml", LABELS)

    return texts


def test_a_label_has_one_text_or_several_or_its_name(texts):
    assert texts("") == (("dog bark",), ("rain",))
    assert texts('"dog bark" = " a dog "') == (("a dog",), ("rain",))
    assert texts('rain = ["rain", "drops"]') == (("dog bark",), ("rain", "drops"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rain, drops", r"texts.toml must be TOML, such as \"dog\" = \"a dog\": "),
        ('wind = "wind"', "must have labels of the dataset only. Received: wind. The labels: dog"),
        ("rain = 3", "must have a text, or a list of texts, for each label. Received: rain = 3"),
        ("rain = []", "Received: rain = "),
        ('rain = ["drops", ""]', "Received: rain = "),
        ('rain = "dog bark"', "must have each text once. Repeated: dog bark"),
        ('rain = ["drops", "drops"]', "Repeated: drops"),
    ],
)
def test_other_files_are_refused_in_one_line(content, message, texts):
    with pytest.raises(ValueError, match=message) as caught:
        texts(content)
    assert len(str(caught.value).splitlines()) == 1


def test_an_embedding_is_the_mean_of_its_texts_scaled_to_unit_length(micro):
    model = SemanticAC.from_preset(micro, ["a dog", "rain"], prompt="this is {label}")
    average_texts(model, (("a dog", "barks", "howls"), ("rain",)))
    vectors = model.encode_text([f"this is {text}" for text in ("a dog", "barks", "howls", "rain")])
    mean = vectors[:3].sum(axis=0)
    expected = np.stack([mean / np.linalg.norm(mean), vectors[3]])
    sounds = np.random.default_rng(0).standard_normal((2, 5120)).astype(np.float32)
    model.predict(sounds, verbose=0)  # does not bake the labels again
    embeddings = keras.ops.convert_to_numpy(model.label_embeddings)
    np.testing.assert_allclose(embeddings, expected, atol=1e-6)
