import numpy as np
import pytest

from training.datasets.split import Split
from training.learning.checks import check_learnable
from training.learning.recipes import Recipe


def split(num_training):
    """A split with this many training clips and two held-out ones."""
    return Split(1, None, np.arange(num_training), np.zeros(0, int), num_training + np.arange(2))


@pytest.mark.parametrize("targets", ["diagonal", "multi_positive"])
def test_batches_of_one_clip_are_refused_where_a_loss_compares_clips(targets):
    for num_training, batch_size in ((4, 1), (1, 32)):
        with pytest.raises(ValueError, match=f'targets="{targets}" .* batches of one clip'):
            check_learnable(split(num_training), Recipe(batch_size=batch_size, targets=targets))
    check_learnable(split(2), Recipe(batch_size=32, targets=targets))
    for independent_of_the_batch in ("prototype", "sigmoid"):
        check_learnable(split(4), Recipe(batch_size=1, targets=independent_of_the_batch))
