"""Published weights: `python -m training.weights list | fetch NAME | inspect PATH`."""

import argparse
import math
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from semanticac_keras.bert_encoder import BertEncoder
from semanticac_keras.checkpoints import CheckpointError
from semanticac_keras.checkpoints.clap import match_clap_file
from semanticac_keras.checkpoints.files import open_checkpoint
from semanticac_keras.checkpoints.layouts import (
    AUDIO_LAYOUTS,
    BERT_LAYOUTS,
    CLAP_LAYOUTS,
    TEXT_LAYOUTS,
)
from semanticac_keras.checkpoints.loading import (
    Match,
    find_layout,
    listed,
    match_audio,
    match_text,
)
from semanticac_keras.checkpoints.registry import REGISTRY, fetch, resolve
from semanticac_keras.checkpoints.sentence import encoder_arguments
from semanticac_keras.checkpoints.stored import CheckpointFile
from semanticac_keras.htsat import HTSATEncoder
from semanticac_keras.text_encoder import TextEncoder
from training.runs.commands import status_of

_PRESET = "base"
# Parts of a whole CLAP, by the beginning of their original names.
_CLAP_PARTS = {
    "audio_branch": "audio encoder",
    "audio_projection": "audio projection",
    "text_branch": "text encoder",
    "text_projection": "text projection",
    "logit_scale_a": "logit scale",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; `sys.argv`'s by default.

    Returns:
        Exit status: 0, 1 after an error at run time, 130 after an interrupt.

    Raises:
        SystemExit: with status 2 if the arguments are wrong, with 0 after `--help`.
    """
    arguments = _parser().parse_args(argv)
    return status_of("weights", lambda: _print(arguments))


def _print(arguments: argparse.Namespace) -> None:
    if arguments.command == "list":
        lines = _list()
    elif arguments.command == "fetch":
        lines = _fetch(arguments.name)
    else:
        lines = _inspect(arguments.path)
    for line in lines:
        print(line)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.weights",
        description="Published weights of the encoders.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list the registered checkpoints")
    fetch_command = commands.add_parser("fetch", help="download a checkpoint and print its path")
    fetch_command.add_argument("name", choices=sorted(REGISTRY), metavar="NAME")
    inspect = commands.add_parser(
        "inspect",
        help="list a file's tensors, and check it against `base`, its own config.json or CLAP",
    )
    inspect.add_argument("path", type=Path, metavar="PATH")
    return parser


def _list() -> Iterator[str]:
    for name, entry in REGISTRY.items():
        state = "in the cache" if entry.path.is_file() else "not fetched"
        if entry.packaged_path is not None:
            state = f"in the package {entry.package}"
        yield f"{name:20} {entry.tower:6} {state}"
        yield f"    {entry.note}"
        yield f"    licence {entry.licence}; SHA-256 {entry.sha256 or 'not published'}"
        yield f"    {entry.url or f'{entry.page} (by hand)'}"


def _fetch(name: str) -> Iterator[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = fetch(name)
    for warning in caught:
        print(f"weights: warning: {warning.message}", file=sys.stderr)
    yield str(path)


def _inspect(path: Path) -> Iterator[str]:
    if path.is_dir():
        path = resolve(path)
    with open_checkpoint(path) as file:
        yield f"{file.container}, {len(file.tensors)} tensors"
        groups: dict[str, list[tuple[int, ...]]] = {}
        for key, tensor in file.tensors.items():
            groups.setdefault(f"{_group(key)} {tensor.dtype}", []).append(tensor.shape)
        for group, shapes in groups.items():
            distinct = ", ".join(str(list(shape)) for shape in dict.fromkeys(shapes))
            yield f"  {len(shapes):4} x {group} {distinct}"
        yield from _fit(path, file)


def _fit(path: Path, file: CheckpointFile) -> Iterator[str]:
    """Describe which encoders or which whole CLAP the file fits, or why it fits none."""
    found, reasons = [], []
    for kind, layouts, match in (
        ("whole CLAP", CLAP_LAYOUTS, _match_clap),
        ("audio encoder", AUDIO_LAYOUTS, _match_audio),
        ("text encoder", TEXT_LAYOUTS, _match_text),
        ("sentence encoder", BERT_LAYOUTS, _match_sentence),
    ):
        try:
            find_layout(file, layouts)
        except CheckpointError as no_layout:
            reasons.append(f"no {kind}: it {no_layout}")
            continue
        try:
            found.append(match(path, file))
        except CheckpointError as unknown_size:
            reasons.append(f"no {kind}: {unknown_size}")
            continue
        if layouts is CLAP_LAYOUTS and not found[-1][1].problems:
            break  # it has the towers, too
    if not found:
        yield from reasons
    for goal, fit in found:
        stored = [(slot.key, key) for slot, keys in fit.weights for key in keys]
        yield f"weights as {fit.layout.name} names them: {_size(file, [key for _, key in stored])}"
        if fit.layout in CLAP_LAYOUTS:
            for start, part in _CLAP_PARTS.items():
                keys = [key for original, key in stored if original.split(".")[0] == start]
                yield f"    {part}: {_size(file, keys)}"
        if fit.constants:
            yield f"constants, only compared: {len(fit.constants)} tensors"
        if fit.unused:
            kinds = list(dict.fromkeys(map(_group, fit.unused)))
            yield f"deliberately not used: {len(fit.unused)} tensors, {listed(kinds)}"
        yield f"does not fit {goal}: {listed(fit.problems)}" if fit.problems else f"fits {goal}"


def _size(file: CheckpointFile, keys: Sequence[str]) -> str:
    """Count those of the tensors that are in the file, and their values."""
    shapes = [file.tensors[key].shape for key in keys if key in file.tensors]
    return f"{len(shapes)} tensors, {sum(map(math.prod, shapes)):,} values"


def _match_clap(path: Path, file: CheckpointFile) -> tuple[str, Match]:
    return "CLAP as a whole", match_clap_file(path)


def _match_audio(path: Path, file: CheckpointFile) -> tuple[str, Match]:
    return _PRESET, match_audio(HTSATEncoder.from_preset(_PRESET), file)


def _match_text(path: Path, file: CheckpointFile) -> tuple[str, Match]:
    return _PRESET, match_text(TextEncoder.from_preset(_PRESET), file)


def _match_sentence(path: Path, file: CheckpointFile) -> tuple[str, Match]:
    encoder = BertEncoder(**encoder_arguments(path.parent))
    return "its config.json as a sentence encoder", match_text(encoder, file)


def _group(key: str) -> str:
    """Replace the numbers in a name by `*`."""
    return re.sub(r"[0-9]+", "*", key)


if __name__ == "__main__":
    sys.exit(main())
