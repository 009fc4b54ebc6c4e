"""A text as shares of a tagger's classes, with an encoder whose vectors are known."""

import keras
import numpy as np
import pytest

from semanticac_keras import ClassProfile, ClassVectors, NameMixture

NAMES = ("Dog", "Siren", "Rain", "Wind")


@pytest.fixture(scope="module")
def vectors():
    """Unit vectors of four names and two more texts, all with a part in common."""
    vectors = np.random.default_rng(0).normal(size=(6, 5)) + 2.0
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def profile(vectors):
    encoder = ClassVectors(6, 5)
    encoder.vectors.assign(3.0 * vectors)  # the length is to have no effect
    return ClassProfile.from_names(
        encoder, lambda names: np.array([[NAMES.index(name)] for name in names], np.int32), NAMES
    )


def test_shares_are_the_softmax_of_cosines_without_what_all_names_share(profile, vectors):
    centered = vectors - vectors[:4].mean(axis=0)
    centered /= np.linalg.norm(centered, axis=1, keepdims=True)
    shares = np.exp(centered @ centered[:4].T / 0.07)
    shares /= shares.sum(axis=1, keepdims=True)
    found = keras.ops.convert_to_numpy(profile(np.arange(6)[:, None]))
    np.testing.assert_allclose(found[:, :4], shares, rtol=2e-4, atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    assert profile.output_dim == 5


def test_the_nearest_names_have_the_largest_shares(profile):
    embeddings = keras.ops.convert_to_numpy(profile(np.arange(6)[:, None]))
    rows = profile.nearest(np.arange(6)[:, None], count=2)
    assert [row[0][0] for row in rows[:4]] == list(NAMES)
    for row, embedding in zip(rows, embeddings, strict=True):
        shares = dict(zip(NAMES, embedding, strict=False))
        assert [name for name, _ in row] == sorted(NAMES, key=lambda name: -shares[name])[:2]
        assert [share for _, share in row] == pytest.approx([shares[name] for name, _ in row])
    assert len(profile.nearest(np.arange(6)[:, None], count=9)[0]) == 4


def test_many_names_are_encoded_in_parts(vectors, monkeypatch, profile):
    monkeypatch.setattr("semanticac_keras.centered_text._TEXTS_AT_ONCE", 3)
    sizes = []

    def tokenizer(names):
        sizes.append(len(names))
        return np.array([[NAMES.index(name)] for name in names], np.int32)

    parts = ClassProfile.from_names(profile.encoder, tokenizer, NAMES)
    assert sizes == [3, 1]
    for mine, theirs in zip(parts.get_weights(), profile.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    assert not parts.trainable_variables


def test_a_mixture_answers_with_the_mean_of_the_names_answers(profile, vectors):
    """Weighted by the shares; what is not named at all is near to nothing."""
    mixture = NameMixture(profile.encoder, NAMES)
    mixture.set_weights(profile.get_weights())
    ids = np.arange(6)[:, None]
    found = keras.ops.convert_to_numpy(mixture(ids))
    assert found.shape == (6, mixture.output_dim) == (6, 6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    clip = np.random.default_rng(1).normal(size=5)
    clip /= np.linalg.norm(clip)
    answers = keras.ops.convert_to_numpy(mixture.name_vectors) @ clip
    shares = keras.ops.convert_to_numpy(mixture.shares(ids))
    np.testing.assert_allclose(found @ np.append(clip, 0.0), shares @ answers, atol=1e-5)
    # A name answers almost for itself.
    np.testing.assert_allclose(found[:4] @ np.append(clip, 0.0), answers, atol=0.1)
