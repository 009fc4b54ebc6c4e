"""Labelled audio datasets with fixed folds, loaded by `load_dataset`.

A new dataset needs a module with a `load(data_dir, progress)` function and a line in `DATASETS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from training.datasets import demo, esc, folder, tfio, urbansound8k
from training.datasets.base import AudioDataset, Clip, DatasetError

__all__ = ["DATASETS", "AudioDataset", "Clip", "DatasetError", "Decoder", "load_dataset"]

Decoder = Literal["soundfile", "tfio"]

DATASETS: Mapping[str, Callable[[Path | None, bool], AudioDataset]] = MappingProxyType(
    {
        "demo": demo.load,
        "esc10": esc.load_esc10,
        "esc50": esc.load_esc50,
        "folder": folder.load,
        "us8k": urbansound8k.load,
    }
)


def load_dataset(
    name: str,
    data_dir: str | Path | None = None,
    progress: bool = True,
    decoder: Decoder = "soundfile",
) -> AudioDataset:
    """Load a dataset and check its consistency.

    Args:
        name: a key of `DATASETS`.
        data_dir: location of the files. Required by `folder` (a directory or a CSV file), optional
            for `esc10`, `esc50` and `us8k` (downloaded by default), not accepted by `demo`.
        progress: whether to show progress bars on stderr.
        decoder: library that reads the files: `"soundfile"` or `"tfio"` (tensorflow-io).

    Raises:
        ValueError: if `name` or `decoder` is unknown, or `data_dir` is missing or not accepted.
        DatasetError: if the dataset is incomplete, damaged or cannot be downloaded, or
            tensorflow-io cannot be loaded.
    """
    if name not in DATASETS:
        raise ValueError(f"`name` must be one of {', '.join(DATASETS)}. Received: {name!r}.")
    if decoder not in get_args(Decoder):
        raise ValueError(f"`decoder` must be one of {get_args(Decoder)}. Received: {decoder!r}.")
    read = tfio.clip_reader() if decoder == "tfio" else None
    path = None if data_dir is None else Path(data_dir).expanduser()
    try:
        dataset = DATASETS[name](path, progress)
    except OSError as error:
        raise DatasetError(f"{name} cannot be read: {error}.") from error
    if read is None:
        return dataset
    if any(clip.path is None for clip in dataset.clips):
        raise ValueError(f"`decoder` needs files, and {name} has none. Omit it.")
    return replace(dataset, read=read)
