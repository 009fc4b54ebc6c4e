"""A CLAP that hears a corpus."""

import numpy as np
import pytest

from semanticac_keras import SemanticAC
from tests.clap_files import FRONT_END, write_clap
from training.pretraining.clap_teacher import ClapTeacher

# Of the letters and words that its small vocabulary has.
NAMES = ("dog", "rain", "wind")


@pytest.fixture
def source(tmp_path):
    directory = tmp_path / "my-clap"
    directory.mkdir()
    write_clap(directory)
    return directory


def test_scores_are_those_of_its_zero_shot_classification(source) -> None:
    teacher = ClapTeacher(source, NAMES, window_seconds=5.0)
    assert teacher.name == "my-clap"
    assert teacher.window_samples == FRONT_END.window_samples  # shorter than the student's
    window = np.random.default_rng(0).normal(0, 0.1, teacher.window_samples).astype(np.float32)
    scores, embedding = teacher.hear_window(window)
    model = SemanticAC.from_pretrained(source, NAMES)
    np.testing.assert_allclose(scores, model.predict([window], verbose=0)[0], atol=1e-4)
    np.testing.assert_allclose(embedding, model.encode_audio([window])[0], atol=1e-5)


def test_a_shorter_window_is_repeated(source) -> None:
    teacher = ClapTeacher(source, NAMES, window_seconds=0.2)
    assert teacher.window_samples == 1600
    window = np.random.default_rng(0).normal(0, 0.1, 1600).astype(np.float32)
    expected = SemanticAC.from_pretrained(source, NAMES).encode_audio([window])[0]
    np.testing.assert_allclose(teacher.hear_window(window)[1], expected, atol=1e-5)


def test_the_digest_is_of_weights_and_classes(source) -> None:
    first, again, other = (
        ClapTeacher(source, names, 1.0).sha256 for names in (NAMES, NAMES, NAMES[:2])
    )
    assert first == again != other
