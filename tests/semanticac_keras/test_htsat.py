import numpy as np
import pytest
from keras import ops

from semanticac_keras import HTSATEncoder
from semanticac_keras.htsat import bicubic_matrix

SMALL = {
    "num_frames": 52,
    "num_mels": 16,
    "num_chunks": 2,
    "chunk_frames": 32,
    "embed_dim": 8,
    "depths": (2, 1),
    "num_heads": (1, 2),
    "window_size": 4,
}


def log_mels(*shape):
    return (np.random.default_rng(0).standard_normal(shape) * 10 - 30).astype(np.float32)


@pytest.mark.slow
def test_paper_size():
    encoder = HTSATEncoder.from_preset("base")
    assert encoder(log_mels(1, 1001, 64)).shape == (1, 8, 8, 768)
    # 27.5 M of HTS-AT's published 31 M; its AudioSet head is not used here.
    assert encoder.count_params() == 27_534_616


def test_five_seconds_through_a_stem():
    encoder = HTSATEncoder.from_preset("small")
    assert encoder(log_mels(2, 501, 64)).shape == (2, 2, 16, 256)


@pytest.mark.parametrize(("size_in", "size_out"), [(1001, 1024), (501, 512), (52, 64)])
def test_resizing_is_pytorchs_bicubic(size_in, size_out):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((size_in, 5)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.tensor(x)[None, None], (size_out, 5), mode="bicubic", align_corners=True
    )
    np.testing.assert_allclose(bicubic_matrix(size_in, size_out)[0] @ x, expected[0, 0], atol=1e-5)


def test_chunks_are_stacked_vertically():
    encoder = HTSATEncoder(**{**SMALL, "num_frames": 64})  # no resizing
    x = np.arange(64 * 16, dtype=np.float32).reshape(1, 64, 16)  # value = 16 · frame + mel
    patches = ops.convert_to_numpy(encoder._patches(encoder._fold(ops.convert_to_tensor(x))))
    assert patches.shape == (1, 8 * 8, 16)
    # Patch in row 5, column 3: second chunk, mels 4-7, frames 32 + 12 ... 32 + 15.
    frames, mels = np.arange(44, 48), np.arange(4, 8)
    np.testing.assert_array_equal(
        patches[0, 5 * 8 + 3], (16 * frames[None, :] + mels[:, None]).ravel()
    )


@pytest.mark.parametrize("stem", [(), (4, 8)])
def test_a_clip_does_not_depend_on_its_batch(stem):
    encoder = HTSATEncoder(**SMALL, stem_channels=stem)
    x = log_mels(5, 52, 16)
    together = ops.convert_to_numpy(encoder(x))
    alone = np.concatenate([ops.convert_to_numpy(encoder(clip[None])) for clip in x])
    # Values of about 1, summed in another order: 1.2e-5 was seen. A leak would give far more.
    np.testing.assert_allclose(together, alone, atol=5e-5)


def test_training_is_random_with_drop_path_and_spec_augment():
    encoder = HTSATEncoder(**SMALL, drop_path=0.5, spec_augment=True)
    x = log_mels(4, 52, 16)
    first, second = (ops.convert_to_numpy(encoder(x, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": 65}, "at most num_chunks"),
        ({"num_heads": (1,)}, "one entry per stage"),
        ({"num_mels": 18}, "`patch_size` must divide"),
        ({"stem_channels": (4, 6)}, "the last `embed_dim`"),
        ({"stem_channels": (8,)}, r"log2\(patch_size\) entries"),
    ],
)
def test_inconsistent_sizes_are_rejected(change, message):
    with pytest.raises(ValueError, match=message):
        HTSATEncoder(**{**SMALL, **change})


def test_log_mels_of_another_shape_are_rejected():
    with pytest.raises(ValueError, match=r"must have shape \(B, 52, 16\)"):
        HTSATEncoder(**SMALL)(log_mels(1, 50, 16))


def test_unknown_preset_is_rejected():
    with pytest.raises(ValueError, match="must be one of"):
        HTSATEncoder.from_preset("huge")
