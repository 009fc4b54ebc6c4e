"""Links, options and code examples of the documentation are valid."""

import contextlib
import importlib
import io
import re
import shlex
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edge import BundleContract, FrontEnd, measure_probe, write_bundle

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_COMMAND = re.compile(
    r"(?:python3? -m (training\.\w+)|(semanticac-edge))(?= |$)([^|<>;`#\n]*)", re.M
)
_OPTION = re.compile(r"--[a-z][a-z0-9-]*")


def _relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_relative)
def test_relative_links_have_a_target(page):
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(page.read_text())):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in _anchors(place)):
            lost.append(target)
    assert not lost, f"{_relative(page)} links to {lost}"


@pytest.mark.parametrize("page", PAGES, ids=_relative)
def test_named_options_exist(page):
    # A backslash continues a command; comments and pipes end it.
    text = page.read_text().replace("\\\n", " ")
    # Options added by a patch on the page.
    added = {f"--{name}" for name in re.findall(r"^\+ +(\w+): .* = option\(", text, re.M)}
    unknown = [
        f"{command} {option}"
        for command, option in _options_in(text)
        if option not in _offered(command) | added
    ]
    assert not unknown, f"{_relative(page)} names {unknown}"


def test_pages_name_many_options():
    named = {pair for page in PAGES for pair in _options_in(page.read_text())}

    assert len(named) > 40


def test_an_unknown_option_is_found():
    text = "`semanticac-edge check --mic` and `python -m training.fit --dataset demo --no-such`"

    pairs = list(_options_in(text))

    assert pairs == [
        ("semanticac-edge check", "--mic"),
        ("training.fit", "--dataset"),
        ("training.fit", "--no-such"),
    ]
    assert "--mic" in _offered("semanticac-edge check")
    assert "--no-such" not in _offered("training.fit")


@pytest.mark.slow
def test_documented_head_exports(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorflow")
    monkeypatch.chdir(tmp_path)

    _run_examples("A head")

    partitions, difference = map(float, capsys.readouterr().out.split())
    assert partitions == 1.0
    assert difference < 1e-4
    assert (tmp_path / "attention.tflite").is_file()


def test_documented_dataset_splits_by_hive(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    names = _run_examples("A dataset")
    load, error = names["load"], names["DatasetError"]
    with pytest.raises(error, match="has no files"):
        load(tmp_path, False)
    for name in ("hive1_queenless_0", "hive1_queenright_0", "hive2_queenless_0"):
        soundfile.write(tmp_path / f"{name}.wav", [0.0] * 800, 8000)

    dataset = load(tmp_path, False)

    assert dataset.labels == ("a queenless beehive", "a queenright beehive")
    assert [(clip.label, clip.fold) for clip in dataset.clips] == [(0, 1), (1, 1), (0, 2)]
    assert len(dataset.load([0], 32_000)[0]) == 3200


def test_documented_sink_writes_rows(tmp_path, monkeypatch):
    soundfile = pytest.importorskip("soundfile")
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "demo"
    run.mkdir(parents=True)
    contract = BundleContract(
        front_end=FrontEnd(window_seconds=1.0),
        inputs="log_mel",
        labels=("one", "two", "three", "four", "five"),
        prompts=("one", "two", "three", "four", "five"),
        embedding_dim=8,
        logit_scale=1 / 0.07,
        quantization="float32",
    )
    graph = (ROOT / "tests" / "data" / "tiny_log_mel.tflite").read_bytes()
    contract = replace(contract, probe=measure_probe(graph, contract))
    write_bundle(run / "model.tflite", graph, contract)
    soundfile.write(run / "example.wav", [0.5, -0.5] * 80_000, 32_000)

    _run_examples("A sink")

    started, start, duration, label = (tmp_path / "events.csv").read_text().strip().split(",")
    assert (started, float(start)) == ("", 0.0)
    assert float(duration) == 5.0
    assert label in contract.labels


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.*:UserWarning", "ignore::DeprecationWarning")
def test_documented_script_leads_from_recordings_to_the_device(tmp_path, monkeypatch, capfd):
    """With a smaller preset, as only the time would differ."""
    pytest.importorskip("tensorflow")
    from semanticac_keras.presets import PRESETS
    from tests import micro
    from tests.clips import make_clips

    monkeypatch.setitem(PRESETS, "tiny", micro.PRESET)
    micro.run_eagerly(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for i, waveform in enumerate(make_clips(6, 7000, 8000)[0]):
        path = Path("recordings", ("hum", "whistle", "hiss")[i % 3], f"{i}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, waveform, 8000)
    # The last block is the device's, where a chunk of the microphone's samples is pushed.
    names = {"chunk": np.zeros(8000, np.float32)}
    names = _run_examples("Python API", "training.md", names)
    assert names["probabilities"].shape == (6, 3)
    np.testing.assert_allclose(names["probabilities"].sum(1), 1, atol=1e-5)
    assert names["model"].labels == ("dog", "rain", "wind")
    assert names["classifier"].labels == ("hiss", "hum", "whistle")


def _run_examples(
    section: str, page: str = "extending.md", names: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Run the Python blocks of a section in order.

    Args:
        section: heading of the section.
        page: file in docs.
        names: what the first block may use.

    Returns:
        The names that the blocks define.
    """
    text = (ROOT / "docs" / page).read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    names = {"__name__": "example", **(names or {})}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, f"docs/{page}, {section}", "exec"), names)
    return names


def _options_in(text: str) -> list[tuple[str, str]]:
    """Pairs of command, including its sub-command, and option."""
    found = []
    for module, program, rest in _COMMAND.findall(text):
        words = rest.split()
        command = module or program
        if words and words[0] in _subcommands(command):
            command += f" {words[0]}"
        found += [(command, option) for option in _OPTION.findall(rest)]
    return found


@cache
def _subcommands(command: str) -> frozenset[str]:
    """Sub-commands of a command, from its help."""
    usage = _help(command).split("\n\n")[0]
    return frozenset(re.findall(r"[a-z][a-z-]+", " ".join(re.findall(r"[\s{]([a-z|,-]+)", usage))))


@cache
def _offered(command: str) -> frozenset[str]:
    return frozenset(_OPTION.findall(_help(command)))


@cache
def _help(command: str) -> str:
    """Output of `command --help`."""
    name, *words = shlex.split(command)
    try:
        module = importlib.import_module("edge.cli" if name == "semanticac-edge" else name)
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as ended:
        module.main([*words, "--help"])
    assert ended.value.code == 0
    return text.getvalue()


def _without_code(text: str) -> str:
    return re.sub(
        r"```.*?```|`[^`\n]*`", lambda code: "" if "](" in code[0] else code[0], text, flags=re.S
    )


def _anchors(page: Path) -> set[str]:
    """Anchors that the forge generates for the headings of a page."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M
    )
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }
