"""File names whose folds are known."""

from itertools import count

from training.datasets.folder import NUM_FOLDS, fold_of


def one_in_each_fold(directory: str, suffix: str = ".wav") -> list[str]:
    """The first of `directory/0.wav`, `directory/1.wav`, … in each fold, without the directory."""
    names: dict[int, str] = {}
    numbers = count()
    while len(names) < NUM_FOLDS:
        name = f"{next(numbers)}{suffix}"
        names.setdefault(fold_of(f"{directory}/{name}"), name)
    return list(names.values())
