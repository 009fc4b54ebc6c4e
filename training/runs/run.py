"""A run directory: what was asked for, what came out, and how to go on."""

import csv
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.files import replacing

Row = dict[str, float]


class RunError(Exception):
    """A run directory cannot be used as asked."""


@dataclass(frozen=True)
class Run:
    """Paths of one training run.

    Args:
        directory: holds everything the run writes.
    """

    directory: Path

    @property
    def config(self) -> Path:
        """What was asked for, and with which versions."""
        return self.directory / "config.json"

    @property
    def history(self) -> Path:
        """One row an epoch."""
        return self.directory / "history.csv"

    @property
    def checkpoint(self) -> Path:
        """Weights and optimiser state after the last whole epoch."""
        return self.directory / "checkpoint.weights.h5"

    @property
    def predictions(self) -> Path:
        """What the kept weights say of each held-out clip."""
        return self.directory / "predictions.npz"

    @property
    def metrics(self) -> Path:
        """Figures of the finished run; its presence says that it is finished."""
        return self.directory / "metrics.json"

    def selected(self, epoch: int) -> Path:
        """Weights after an epoch that was the best so far on the validation fold."""
        return self.directory / f"selected-{epoch}.weights.h5"

    def keep_selected(self, epoch: int | None) -> None:
        """Remove the selected weights of all epochs but this one."""
        for path in self.directory.glob("selected-*.weights.h5"):
            if epoch is None or path != self.selected(epoch):
                path.unlink()

    def start(self, settings: Mapping[str, Any], program: str = "training.fit") -> None:
        """Create the directory, and write the settings with what it takes to repeat the run.

        Raises:
            RunError: if another run is there already.
        """
        if self.config.exists():
            raise RunError(
                f"{self.directory} holds a run already: go on with --resume, "
                "or choose another directory with --out."
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        write_json(self.config, {**settings, **provenance(program)})

    def check_resumable(self, settings: Mapping[str, Any]) -> None:
        """Refuse to go on with other settings than the run was started with.

        Raises:
            RunError: naming what differs, or if there is nothing to resume or nothing left to do.
        """
        if not self.config.exists():
            raise RunError(f"{self.directory} holds no run to resume.")
        if self.metrics.exists():
            raise RunError(f"{self.directory} holds a finished run; there is nothing to resume.")
        self.check_same(settings)

    def check_same(self, settings: Mapping[str, Any]) -> None:
        """Refuse a run that was started with other settings.

        Raises:
            RunError: naming what differs.
        """
        config = json.loads(self.config.read_text())
        before = {name: config.get(name) for name in settings}
        now = json.loads(json.dumps(settings))
        differences = [
            f"{name} was {old}, is {new}" for name, old, new in flat_differences(before, now)
        ]
        if differences:
            raise RunError(
                f"{self.directory} was started with other settings: {'; '.join(differences)}."
            )

    def read_history(self) -> list[Row]:
        """The rows written so far."""
        if not self.history.exists():
            return []
        with self.history.open(newline="") as file:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]

    def write_history(self, rows: list[Row]) -> None:
        """Replace the history."""
        with replacing(self.history) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["epoch"])
            writer.writeheader()
            writer.writerows(rows)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write one JSON file whole."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def best_epoch(rows: list[Row]) -> int | None:
    """The epoch with the highest accuracy in validation, the later of equals; None without any."""
    best = max(rows, key=lambda row: (row["val_accuracy"], row["epoch"]), default=None)
    return None if best is None else int(best["epoch"])


def provenance(program: str) -> dict[str, Any]:
    """The command, the code and the versions that run now."""
    packages = ("semanticac-keras", "keras", "tensorflow", "jax", "torch", "numpy")
    return {
        "command": ["python", "-m", program, *sys.argv[1:]],
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "versions": {name: version for name in packages if (version := _version(name))},
    }


def portable(command: Sequence[str]) -> list[str]:
    """A command as others would type it: files elsewhere by their names alone."""
    return [Path(word).name if Path(word).is_absolute() else word for word in command]


def free_directory(wanted: Path) -> Path:
    """`wanted`, or its first numbered sibling that holds no run."""
    directory, number = wanted, 1
    while Run(directory).config.exists():
        number += 1
        directory = wanted.with_name(f"{wanted.name}-{number}")
    return directory


def flat_differences(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Leaves that differ, by name."""
    found: list[tuple[str, Any, Any]] = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += flat_differences(old, new)
        elif old != new:
            found.append((name, old, new))
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The revision of the code that runs, marked if it was changed since; None outside git."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # not some project around site-packages
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
