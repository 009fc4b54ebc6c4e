import keras
import numpy as np
from keras import ops

from semanticac_keras import HTSATEncoder
from semanticac_keras.stem import ConvStem


def picture(rows, columns):
    values = np.random.default_rng(0).standard_normal((2, rows, columns, 1))
    return ops.convert_to_tensor(values.astype(np.float32))


def test_each_block_halves_the_sides():
    stem = ConvStem((4, 6))
    tokens = stem(picture(8, 16))
    assert tokens.shape == (2, 2 * 4, 6) == stem.compute_output_shape((2, 8, 16, 1))


def test_shifting_the_image_shifts_the_tokens():
    """A shift by one token; patch embeddings must learn this property."""
    stem = ConvStem((4, 6))
    x = picture(8, 64)
    moved = ops.concatenate([x[:, :, 4:], x[:, :, :4]], axis=2)
    tokens, others = (ops.convert_to_numpy(stem(y)).reshape(2, 2, 16, 6) for y in (x, moved))
    # The receptive field is 19 columns: padding reaches at most four tokens from the edges.
    np.testing.assert_allclose(others[:, :, 4:11], tokens[:, :, 5:12], atol=1e-5)


def test_stem_is_restored_from_a_saved_model(tmp_path):
    encoder = HTSATEncoder(
        num_frames=32,
        num_mels=16,
        num_chunks=1,
        chunk_frames=32,
        stem_channels=(4, 8),
        embed_dim=8,
        depths=(2,),
        num_heads=(2,),
        window_size=4,
    )
    x = picture(32, 16)[..., 0]
    encoder(x, training=True)  # makes the moving statistics non-trivial
    encoder.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.stem_channels == (4, 8)
    np.testing.assert_allclose(
        ops.convert_to_numpy(loaded(x)), ops.convert_to_numpy(encoder(x)), atol=1e-6
    )


def test_half_precision_is_preserved():
    tokens = ConvStem((4,), dtype="mixed_bfloat16")(picture(4, 4))
    assert keras.backend.standardize_dtype(tokens.dtype) == "bfloat16"
