"""`python -m training.weights`."""

import numpy as np
import pytest

from semanticac_keras import TextEncoder
from semanticac_keras.checkpoints.registry import REGISTRY
from semanticac_keras.checkpoints.slots import text_slots
from tests.bert_files import write_sentence_encoder, write_weights
from tests.clap_files import write_clap
from training.weights import main

save_file = pytest.importorskip("safetensors.numpy").save_file


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMANTICAC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_list_names_all_registered_checkpoints(capsys):
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in REGISTRY)
    packaged = [entry for entry in REGISTRY.values() if entry.packaged_path is not None]
    assert output.count("not fetched") == len(REGISTRY) - len(packaged)
    assert output.count("in the package") == len(packaged)


def test_fetch_of_a_manual_download_is_explained_in_one_line(capsys, cache):
    assert main(["fetch", "htsat-audioset"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("weights: error: htsat-audioset must be fetched by hand")
    assert str(cache) in captured.err
    assert captured.err.count("\n") == 1


def test_fetch_prints_the_path_and_warns_about_a_missing_digest(capsys, cache):
    path = cache / "checkpoints" / "htsat-audioset.ckpt"
    path.parent.mkdir(parents=True)
    save_file({"x": np.ones(2)}, path)
    assert main(["fetch", "htsat-audioset"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{path}\n"
    assert captured.err.startswith("weights: warning: no digest")


def test_unknown_name_is_a_usage_error(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["fetch", "unheard-of"])


@pytest.mark.slow
def test_inspect_reports_a_file_that_fits(capsys, tmp_path):
    slots = text_slots(TextEncoder.from_preset("base", context_length=77))  # as published
    state = {slot.key: np.zeros(slot.shape, np.float16) for slot in slots}
    save_file(state | {"visual.conv1.weight": np.zeros((2, 3, 2, 2))}, tmp_path / "clip")
    assert main(["inspect", str(tmp_path / "clip")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "safetensors, 150 tensors"
    assert "    12 x transformer.resblocks.*.mlp.c_fc.weight float16 [2048, 512]" in lines
    assert lines[-3:] == [
        "weights as CLIP (OpenAI, open_clip) names them: 149 tensors, 63,690,240 values",
        "deliberately not used: 1 tensors, visual.conv*.weight",
        "fits base",
    ]


@pytest.mark.slow
def test_inspect_reports_why_a_file_does_not_fit(capsys, tmp_path):
    save_file({"audio_branch.patch_embed.proj.weight": np.ones((2, 1, 4, 4))}, tmp_path / "clap")
    assert main(["inspect", str(tmp_path / "clap")]) == 0
    assert "does not fit base: `audio_branch.bn0.weight` is missing" in capsys.readouterr().out
    save_file({"x": np.ones(2)}, tmp_path / "other")
    assert main(["inspect", str(tmp_path / "other")]) == 0
    assert "no audio encoder" in capsys.readouterr().out


def test_inspect_checks_a_sentence_encoder_against_its_own_config(capsys, tmp_path):
    write_sentence_encoder(tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "safetensors, 21 tensors"
    assert lines[-2:] == [
        "weights as BERT names them: 21 tensors, 1,068 values",
        "fits its config.json as a sentence encoder",
    ]
    write_sentence_encoder(tmp_path, num_hidden_layers=2)
    assert main(["inspect", str(tmp_path / "model.safetensors")]) == 0
    assert "does not fit its config.json" in capsys.readouterr().out
    (tmp_path / "config.json").unlink()
    assert main(["inspect", str(tmp_path / "model.safetensors")]) == 0
    assert "no sentence encoder: " in capsys.readouterr().out


CLAP_PARTS = [
    "    audio projection: 4 tensors, 96 values",
    "    text encoder: 23 tensors, 27,020 values",
    "    text projection: 4 tensors, 432 values",
    "    logit scale: 1 tensors, 1 values",
]


def test_inspect_accounts_for_each_tensor_of_a_whole_clap(capsys, tmp_path):
    state = write_clap(tmp_path)
    (tmp_path / "vocab.txt").unlink()  # weights alone
    write_weights(state | {"logit_scale_t": np.ones((), np.float32)}, tmp_path)
    assert main(["inspect", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "safetensors, 60 tensors"
    assert lines[-8:] == [
        "weights as Hugging Face CLAP names them: 59 tensors, 28,751 values",
        "    audio encoder: 27 tensors, 1,202 values",
        *CLAP_PARTS,
        "deliberately not used: 1 tensors, logit_scale_t",
        "fits CLAP as a whole",
    ]
    write_weights(state | {"audio_projection.linear3.bias": np.ones(6, np.float32)}, tmp_path)
    assert main(["inspect", str(tmp_path / "model.safetensors")]) == 0
    shown = capsys.readouterr().out
    assert "does not fit CLAP as a whole: `audio_projection.linear3.bias` is unexpected" in shown
    assert "fits its config.json as a sentence encoder" in shown


def test_inspect_checks_laion_s_clap_without_settings(capsys, tmp_path):
    write_clap(tmp_path, "LAION-CLAP")
    for name in ("config.json", "preprocessor_config.json", "vocab.txt"):
        (tmp_path / name).unlink()
    assert main(["inspect", str(tmp_path / "model.safetensors")]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines.index("weights as LAION-CLAP names them: 55 tensors, 28,751 values")
    parts = ["    audio encoder: 23 tensors, 1,202 values", *CLAP_PARTS]
    assert lines[first + 1 : first + 6] == parts
    # The front end of LAION's models has 64 mels.
    problem = "does not fit CLAP as a whole: `module.audio_branch.bn0.weight` has shape (16,)"
    assert lines[first + 6].startswith(problem)


@pytest.mark.parametrize("content", [None, b"PK\x03\x04", b"<html>"])
def test_inspect_refuses_another_file_in_one_line(content, capsys, tmp_path):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    assert main(["inspect", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"weights: error: {path}")
    assert error.count("\n") == 1
