from itertools import islice

import numpy as np

from edge import FrontEnd, log_mel
from training.learning.augment import Augmentation
from training.learning.batches import EmbeddingBatches, TrainingBatches

EVERYTHING = Augmentation(0.5, 1.5, 0.5, gain_db=6.0, mixup=0.3)


def batches(seed=0, augmentation=EVERYTHING, batch_size=4):
    rng = np.random.default_rng(7)
    waveforms = [rng.standard_normal(size).astype(np.float32) for size in range(500, 511)]
    labels = np.arange(11) % 3
    return TrainingBatches(waveforms, labels, 3, batch_size, 500, augmentation, seed)


def test_batches_depend_only_on_the_seed_and_their_number():
    first = list(islice(batches().generate(), 6))
    again = list(islice(batches().generate(), 6))
    for (waveforms, shares), (same_waveforms, same_shares) in zip(first, again, strict=True):
        np.testing.assert_array_equal(waveforms, same_waveforms)
        np.testing.assert_array_equal(shares, same_shares)
    other = next(batches(seed=1).generate())
    assert np.abs(first[0][0] - other[0]).max() > 0.1


def test_a_resumed_run_continues_with_the_next_epoch():
    all_batches = list(islice(batches().generate(), 6))
    resumed = list(islice(batches().generate(first_epoch=2), 2))
    for (waveforms, _), (expected, _) in zip(resumed, all_batches[4:], strict=True):
        np.testing.assert_array_equal(waveforms, expected)


def test_an_epoch_uses_each_clip_once():
    source = batches(augmentation=Augmentation(), batch_size=5)
    assert source.steps_per_epoch == 2
    for epoch in range(3):
        seen = np.concatenate([source.batch(2 * epoch + step)[0] for step in range(2)])
        assert len(np.unique(seen[:, 0])) == 10
    orders = [source.batch(2 * epoch)[1].argmax(1).tolist() for epoch in range(4)]
    assert len({tuple(order) for order in orders}) > 1


def test_clips_may_have_several_labels_or_none():
    waveforms = [np.full(500, value, np.float32) for value in range(3)]
    targets = np.array([[1, 1], [0, 0], [0, 1]])
    plain = TrainingBatches(waveforms, targets, 2, 3, 500, Augmentation(), 0, exclusive=False)
    for given, share in zip(*plain.batch(0), strict=True):
        np.testing.assert_array_equal(share, targets[int(given[0])])
    mixed = Augmentation(mixup=0.5)
    source = TrainingBatches(waveforms, targets, 2, 3, 500, mixed, 0, exclusive=False)
    assert np.isin(source.batch(0)[1], [0, 1]).all()


def test_fewer_clips_than_a_batch_make_one_batch():
    source = batches(batch_size=64)
    assert (source.batch_size, source.steps_per_epoch) == (11, 1)
    waveforms, shares = source.batch(0)
    assert (waveforms.shape, shares.shape) == ((11, 500), (11, 3))
    assert waveforms.dtype == shares.dtype == np.float32


def test_short_clips_are_repeated_as_the_tower_repeats_them():
    clips = [np.full(300, 0.5, np.float32)] * 2
    for whole, silent in ((False, 0), (True, 100)):
        waveforms, _ = TrainingBatches(
            clips, np.arange(2), 2, 2, 1000, Augmentation(), 0, whole_repeats=whole
        ).batch(0)
        assert (waveforms == 0).sum(axis=1).tolist() == [silent, silent]


def test_the_host_can_compute_the_log_mels():
    front_end = FrontEnd(window_seconds=0.1)
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(4000).astype(np.float32) for _ in range(6)]
    arguments = (clips, np.arange(6) % 3, 3, 2, front_end.window_samples, EVERYTHING, 0)
    waveforms, shares = TrainingBatches(*arguments).batch(1)
    log_mels, same_shares = TrainingBatches(*arguments, front_end).batch(1)
    np.testing.assert_array_equal(shares, same_shares)
    expected = np.stack([log_mel(waveform, front_end) for waveform in waveforms])
    np.testing.assert_array_equal(log_mels, expected)


def test_unchanging_clips_are_transformed_once(monkeypatch):
    def count(waveform, front_end):
        transformed.append(waveform)
        return log_mel(waveform, front_end)

    transformed = []
    monkeypatch.setattr("training.learning.batches.log_mel", count)
    front_end = FrontEnd(window_seconds=0.1)
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(3200).astype(np.float32) for _ in range(6)]
    source = TrainingBatches(clips, np.arange(6), 6, 2, 3200, Augmentation(), 0, front_end)
    for batch in islice(source.generate(), 9):
        for given, share in zip(*batch, strict=True):
            np.testing.assert_array_equal(given, log_mel(clips[share.argmax()], front_end))
    assert len(transformed) == 6


def test_embeddings_are_mixed_with_their_labels():
    rng = np.random.default_rng(7)
    embeddings = rng.standard_normal((11, 2, 3)).astype(np.float32)
    labels = np.arange(11) % 3
    plain, mixed = (EmbeddingBatches(embeddings, labels, 3, 4, alpha, seed=1) for alpha in (0, 0.5))
    chosen = plain.chosen(5)
    values, shares = plain.batch(5)
    np.testing.assert_array_equal(values, embeddings[chosen])
    np.testing.assert_array_equal(shares.argmax(1), labels[chosen])
    values, shares = mixed.batch(5)
    np.testing.assert_array_equal(values, mixed.batch(5)[0])
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    # Each row lies between two embeddings, at the place that its shares say.
    kept = shares.max(axis=1)
    others = [
        (row - k * embeddings[i]) / (1 - k)
        for row, k, i in zip(values, kept, chosen, strict=True)
        if k < 1
    ]
    assert others
    for other in others:
        assert np.abs(embeddings - other).max(axis=(1, 2)).min() < 1e-4
