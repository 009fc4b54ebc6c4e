import numpy as np
import pytest

from training.learning.augment import Augmentation
from training.learning.batches import TrainingBatches
from training.learning.tagger import Teacher, TeacherError
from training.lessons import Lessons, TaughtBatches

RATE_HZ = 4000
EVERYTHING = Augmentation(0.5, 1.5, 0.5, gain_db=6.0, mixup=0.5)


class Spy(Teacher):
    """Counts what it hears."""

    heard = 0

    def hear(self, waveform, sample_rate_hz):
        self.heard += 1
        return super().hear(waveform, sample_rate_hz)


@pytest.fixture
def spy(tagger):
    return Spy(tagger, RATE_HZ)


def batches(augmentation=EVERYTHING, seed=0):
    rng = np.random.default_rng(7)
    waveforms = [rng.standard_normal(size).astype(np.float32) for size in range(1500, 1511)]
    return TrainingBatches(waveforms, np.arange(11) % 3, 3, 4, 1200, augmentation, seed)


def test_targets_are_the_answers_to_the_very_examples(spy, tmp_path):
    """Also to mixtures, whose answers are not the mixtures of the answers."""
    source = batches()
    lessons = Lessons(spy, source, RATE_HZ, 3, tmp_path)
    taught = TaughtBatches(source, lessons)
    means = np.concatenate([view["embeddings"].mean(axis=1, dtype="f4") for view in lessons.views])
    mixed = 0
    for number in range(2 * 4):  # through the views and on with the first
        waveforms, targets = taught.batch(number)
        mixed += (targets["shares"].max(axis=1) < 0.9).sum()
        answers = [spy.hear(waveform, RATE_HZ) for waveform in waveforms]
        scores = np.stack([scores.mean(axis=0) for scores, _ in answers])
        np.testing.assert_allclose(targets["scores"], scores, atol=1e-6)
        embeddings = np.stack([embeddings.mean(axis=0) for _, embeddings in answers])
        standardised = (embeddings - means.mean(axis=0)) / means.std(axis=0)
        np.testing.assert_allclose(targets["embedding"], standardised, atol=2e-2)  # 16-bit floats
    assert mixed


def test_targets_are_standardised_over_all_views(spy, tmp_path):
    lessons = Lessons(spy, batches(), RATE_HZ, 4, tmp_path)
    targets = [lessons.targets(view, np.arange(11)) for view in range(4)]
    embeddings = np.concatenate([target["embedding"] for target in targets])
    np.testing.assert_allclose(embeddings.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(embeddings.std(axis=0), 1.0, atol=1e-3)
    scores = np.concatenate([target["scores"] for target in targets])
    np.testing.assert_allclose(lessons.mean_scores, scores.mean(axis=0), atol=1e-6)
    assert not lessons.exclusive


def test_each_epoch_takes_the_next_view_of_each_clip(spy, tmp_path):
    source = batches(Augmentation(gain_db=6.0))
    taught = TaughtBatches(source, Lessons(spy, source, RATE_HZ, 2, tmp_path))
    for number in range(6):
        epoch, clips = source.choose(number)
        np.testing.assert_array_equal(taught.batch(number)[0], source.view(epoch % 2, clips)[0])
    resumed = next(iter(taught.generate(first_epoch=2)))
    for name, values in taught.batch(4)[1].items():
        np.testing.assert_array_equal(resumed[1][name], values)


def test_a_view_does_not_depend_on_the_clips_beside():
    source = batches()
    together, shares = source.view(1, np.arange(11))
    for clip in range(11):
        alone, share = source.view(1, np.array([clip]))
        np.testing.assert_array_equal(alone[0], together[clip])
        np.testing.assert_array_equal(share[0], shares[clip])
    assert np.abs(source.view(2, np.arange(11))[0] - together).max() > 0.1


def test_answers_are_kept_and_a_killed_run_goes_on(spy, tmp_path, monkeypatch):
    Lessons(spy, batches(), RATE_HZ, 1, tmp_path)
    whole = spy.heard
    Lessons(spy, batches(), RATE_HZ, 1, tmp_path)
    witnesses = spy.heard - whole
    assert whole == 11 + witnesses

    answer = Lessons._answer

    def killed_in_the_third_view(self, view, clip):
        if view == 2:
            raise KeyboardInterrupt
        return answer(self, view, clip)

    monkeypatch.setattr(Lessons, "_answer", killed_in_the_third_view)
    with pytest.raises(KeyboardInterrupt):
        Lessons(spy, batches(), RATE_HZ, 4, tmp_path)
    monkeypatch.setattr(Lessons, "_answer", answer)
    spy.heard = 0
    resumed = Lessons(spy, batches(), RATE_HZ, 4, tmp_path)
    assert spy.heard == witnesses + 2 * 11
    straight = Lessons(spy, batches(), RATE_HZ, 4, tmp_path / "other")
    for view, expected in zip(resumed.views, straight.views, strict=True):
        assert view.tobytes() == expected.tobytes()
    files = {path.name for path in resumed.directory.iterdir()}
    assert files == {f"view-{view:03}.npy" for view in range(4)}


def test_other_answers_have_another_place(tagger, tmp_path):
    def place(source, rate_hz=RATE_HZ):
        return Lessons(Teacher(tagger, rate_hz), source, RATE_HZ, 1, tmp_path).directory

    other_clips = batches()
    other_clips.waveforms[10] = other_clips.waveforms[10][::-1]
    variants = [
        place(batches()),
        place(batches(seed=1)),
        place(batches(Augmentation())),
        place(other_clips),
        place(batches(), rate_hz=8000),
    ]
    assert len(set(variants)) == len(variants)


def test_a_teacher_may_have_no_embedding(convert, tmp_path):
    tf = pytest.importorskip("tensorflow")
    path = convert(lambda waveform: tf.nn.softmax(tf.reshape(waveform, (1, 64))), (64,))
    lessons = Lessons(Teacher(path, RATE_HZ), batches(), RATE_HZ, 1, tmp_path)
    assert lessons.exclusive
    assert list(lessons.targets(0, np.arange(3))) == ["scores"]


def test_refuses_embeddings_that_overflow(convert, tmp_path):
    tf = pytest.importorskip("tensorflow")

    def serve(waveform):
        huge = tf.exp(12.0 * tf.reshape(waveform, (1, 64)))
        return tf.sigmoid(huge @ np.full((64, 2), 1e-9, np.float32))

    teacher = Teacher(convert(serve, (64,)), RATE_HZ)
    with pytest.raises(TeacherError, match="16-bit"):
        Lessons(teacher, batches(), RATE_HZ, 1, tmp_path)
