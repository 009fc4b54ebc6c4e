"""A run directory: what was asked for, what came out, and how to go on."""

import csv
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.files import replacing
from training.recipes import Recipe


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
    def metrics(self) -> Path:
        """Figures of the finished run; its presence says that it is finished."""
        return self.directory / "metrics.json"

    def start(self, config: Mapping[str, Any]) -> None:
        """Create the directory and write the configuration.

        Raises:
            RunError: if another run is there already.
        """
        if self.config.exists():
            raise RunError(
                f"{self.directory} holds a run already: go on with --resume, "
                "or choose another directory with --out."
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        self.write_json(self.config, config)

    def check_resumable(self, config: Mapping[str, Any]) -> None:
        """Refuse to go on with other settings than the run was started with.

        Raises:
            RunError: naming what differs, or if there is nothing to resume or nothing left to do.
        """
        if not self.config.exists():
            raise RunError(f"{self.directory} holds no run to resume.")
        if self.metrics.exists():
            raise RunError(f"{self.directory} holds a finished run; there is nothing to resume.")
        before = json.loads(self.config.read_text())
        now = json.loads(json.dumps(config))
        keys = ("dataset", "fold", "recipe")
        differences = [
            f"{name} was {old}, is {new}"
            for name, old, new in _flat_differences(
                {key: before.get(key) for key in keys}, {key: now.get(key) for key in keys}
            )
        ]
        if differences:
            raise RunError(
                f"{self.directory} was started with other settings: {'; '.join(differences)}."
            )

    def read_history(self) -> list[dict[str, float]]:
        """The rows written so far."""
        if not self.history.exists():
            return []
        with self.history.open(newline="") as file:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Replace the history."""
        with replacing(self.history) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["epoch"])
            writer.writeheader()
            writer.writerows(rows)

    def write_json(self, path: Path, values: Mapping[str, Any]) -> None:
        """Write one JSON file whole."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def describe(dataset: str, fold: int, recipe: Recipe) -> dict[str, Any]:
    """The configuration of a run, with what it takes to repeat it."""
    packages = ("semanticac-keras", "keras", "tensorflow", "jax", "torch", "numpy")
    return {
        "dataset": dataset,
        "fold": fold,
        "recipe": asdict(recipe),
        "command": ["python", "-m", "training.fit", *sys.argv[1:]],
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "versions": {name: version for name in packages if (version := _version(name))},
    }


def free_directory(wanted: Path) -> Path:
    """`wanted`, or its first numbered sibling that holds no run."""
    directory, number = wanted, 1
    while Run(directory).config.exists():
        number += 1
        directory = wanted.with_name(f"{wanted.name}-{number}")
    return directory


def _flat_differences(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Leaves that differ, by name."""
    found: list[tuple[str, Any, Any]] = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _flat_differences(old, new)
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
