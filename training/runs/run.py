"""Run directories: settings, history, checkpoints and results of a training."""

import csv
import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.datasets.base import describe_changes
from training.runs.files import RunError, writing

Row = dict[str, float]
# Keys of what a validation measures, of clips with one label each and of others.
MEASURES = ("accuracy", "mean_average_precision")
# See `AudioDataset.listing`.
Listing = dict[str, list[Any]]


@dataclass(frozen=True)
class Run:
    """Paths of one training run.

    Args:
        directory: directory of all files of the run.
    """

    directory: Path

    @property
    def config(self) -> Path:
        """Settings, command, revision and versions."""
        return self.directory / "config.json"

    @property
    def clips(self) -> Path:
        """The clips at the start; absent in runs of older versions."""
        return self.directory / "clips.json"

    @property
    def history(self) -> Path:
        """History, one row per epoch."""
        return self.directory / "history.csv"

    @property
    def checkpoint(self) -> Path:
        """Weights and optimiser state after the last complete epoch."""
        return self.directory / "checkpoint.weights.h5"

    @property
    def model(self) -> Path:
        """The final model; absent without export."""
        return self.directory / "model.keras"

    @property
    def predictions(self) -> Path:
        """Predictions of the final weights on the held-out clips."""
        return self.directory / "predictions.npz"

    @property
    def metrics(self) -> Path:
        """Metrics of the run; the file exists only if the run is finished."""
        return self.directory / "metrics.json"

    @property
    def preset(self) -> str | None:
        """The recipe's preset; None without a recipe."""
        if not self.config.exists():
            return None
        recipe = json.loads(self.config.read_text()).get("recipe", {})
        return recipe.get("preset")

    def selected(self, epoch: int) -> Path:
        """Weights after an epoch that was the best so far on the validation fold."""
        return self.directory / f"selected-{epoch}.weights.h5"

    def keep_selected(self, epoch: int | None) -> None:
        """Remove the selected weights of all other epochs, or of all epochs if None."""
        for path in self.directory.glob("selected-*.weights.h5"):
            if epoch is None or path != self.selected(epoch):
                path.unlink()

    def start(
        self,
        settings: Mapping[str, Any],
        program: str = "training.fit",
        clips: Listing | None = None,
    ) -> None:
        """Create the directory and write the clips, settings, command and versions.

        Args:
            settings: settings of the run.
            program: module that runs.
            clips: the dataset's clips, to refuse a resume with others.

        Raises:
            RunError: if the directory already holds a run.
        """
        self.check_unused()
        self.directory.mkdir(parents=True, exist_ok=True)
        digest = {}
        if clips is not None:
            write_json(self.clips, clips)
            digest["clips_sha256"] = _sha256(self.clips)
        write_json(self.config, {**settings, **digest, **provenance(program)})

    def check_unused(self) -> None:
        """Refuse a directory that already holds a run.

        Raises:
            RunError: if there is a run.
        """
        if self.config.exists():
            raise RunError(
                f"{self.directory} already holds a run; continue it with --resume, "
                "or choose another directory with --out."
            )

    def check_resumable(self, settings: Mapping[str, Any], clips: Listing | None = None) -> None:
        """Refuse to resume a missing run, or a run with other settings or clips.

        A finished run is resumed with more epochs only; see `extend`.

        Raises:
            RunError: if the run cannot be resumed; names what differs.
        """
        if not self.config.exists():
            raise RunError(f"{self.directory} holds no run to resume.")
        if self.metrics.exists():
            settings = {**settings, "recipe": self._check_extension(settings.get("recipe", {}))}
        self.check_same(settings, clips)

    def _check_extension(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Return the recipe with the finished run's epochs, if it has more of them."""
        before = json.loads(self.config.read_text()).get("recipe", {}).get("epochs", 0)
        if recipe.get("epochs", 0) <= before:
            raise RunError(
                f"{self.directory} holds a finished run of {before} epochs; there is nothing to "
                "resume. A higher --epochs extends it."
            )
        if not self.checkpoint.exists():
            raise RunError(f"{self.checkpoint} does not exist, so the run cannot be extended.")
        return {**recipe, "epochs": before}

    def extend(self, epochs: int) -> None:
        """Make a finished run an unfinished one with more epochs."""
        self.metrics.unlink()
        config = json.loads(self.config.read_text())
        config["extended_at"] = [*config.get("extended_at", []), config["recipe"]["epochs"]]
        config["recipe"]["epochs"] = epochs
        write_json(self.config, config)

    def trained_on(self) -> Listing:
        """Return the clips that the run was trained on, as far as its directory lists them."""
        if not (self.clips.exists() and self.config.exists()):
            return {}
        config = json.loads(self.config.read_text())
        left_out = (config.get("fold"), config.get("validation_fold"))
        clips: Listing = json.loads(self.clips.read_text())
        return {name: entry for name, entry in clips.items() if entry[1] not in left_out}

    def check_same(self, settings: Mapping[str, Any], clips: Listing | None = None) -> None:
        """Refuse a run that was started with other settings or other clips.

        Args:
            settings: settings of the run now.
            clips: the dataset's clips now, if they are to be compared.

        Raises:
            RunError: if settings or clips differ; names them.
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
        if clips is not None:
            self._check_clips(config.get("clips_sha256"), clips)

    def _check_clips(self, sha256: str | None, clips: Listing) -> None:
        if sha256 is None:
            print(
                f"warning: {self.directory} has no list of its clips, as it is from an older "
                "version; changes of the data since its start go unnoticed",
                file=sys.stderr,
            )
            return
        if not self.clips.exists() or _sha256(self.clips) != sha256:
            raise RunError(f"{self.clips} is missing or was changed; start a new run.")
        before, now = json.loads(self.clips.read_text()), json.loads(json.dumps(clips))
        if before != now:
            raise RunError(
                f"{self.directory} was started with other clips: {describe_changes(before, now)}. "
                "Start a new run with --out."
            )

    def read_history(self) -> list[Row]:
        """Read the rows written so far."""
        if not self.history.exists():
            return []
        with self.history.open(newline="") as file:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]

    def write_history(self, rows: list[Row]) -> None:
        """Write the complete history, replacing the file."""
        with writing(self.history) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["epoch"])
            writer.writeheader()
            writer.writerows(rows)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    with writing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def best_epoch(rows: list[Row]) -> int | None:
    """Return the epoch with the best validation, the last of equals; None without rows."""
    best = max(rows, key=lambda row: (validated(row), row["epoch"]), default=None)
    return None if best is None else int(best["epoch"])


def validated(row: Row) -> float:
    """Return what the validation of an epoch measured."""
    return next(row[f"val_{key}"] for key in MEASURES if f"val_{key}" in row)


def provenance(program: str) -> dict[str, Any]:
    """Return the command, git revision and versions of this process."""
    packages = ("semanticac-keras", "keras", "tensorflow", "jax", "torch", "numpy")
    return {
        "command": ["python", "-m", program, *sys.argv[1:]],
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "versions": {name: version for name in packages if (version := _version(name))},
    }


def portable(command: Sequence[str]) -> list[str]:
    """Shorten absolute paths in a command to file names, for publication."""
    return [Path(word).name if Path(word).is_absolute() else word for word in command]


def free_directory(preferred: Path) -> Path:
    """Return the preferred directory, or its first numbered sibling that holds no run."""
    directory, number = preferred, 1
    while Run(directory).config.exists():
        number += 1
        directory = preferred.with_name(f"{preferred.name}-{number}")
    return directory


def flat_differences(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Return name, old and new value of each leaf that differs between nested mappings."""
    found: list[tuple[str, Any, Any]] = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += flat_differences(old, new)
        elif old != new:
            found.append((name, old, new))
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Return this code's revision, marked if there are changes; None outside its repository."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # fails in a project around site-packages
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
