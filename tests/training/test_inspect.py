"""The command that inspects recordings: its table, warnings, picture and exit status."""

import numpy as np
import pytest
import soundfile

from training import inspect


def test_a_folder_is_summarised(folder, tmp_path, capsys):
    picture = tmp_path / "inspect.png"
    assert inspect.main([str(folder), "--picture", str(picture)]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0] == "sounds: 10 clips of 2 classes in 5 folds, 0.1 minutes"
    header, hiss, hum = (line.split() for line in lines[2:5])
    assert header[:3] == ["class", "clips", "minutes"]
    assert hiss == ["hiss", "5", "0.1", "0.75", "0.75", "0.75", "-20", *"11111"]
    assert hum == ["low", "hum", "5", "0.1", "0.75", "0.75", "0.75", "-13", *"11111"]
    assert lines[6:] == [
        "clipped: 0 clips (0.0%)",
        "sample rates: 8,000 Hz (10)",
        "warning: fewer than 10 clips: hiss (5), low hum (5); an accuracy means little",
        f"picture: {picture}",
    ]
    assert "Inspecting sounds" in shown.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_copy_of_a_training_sound_is_found(folder, capsys):
    rng = np.random.default_rng(0)
    sound = np.repeat(rng.uniform(0.05, 0.3, 20), 1600) * rng.standard_normal(32_000)
    for label, name, shift in (("hiss", "a.wav", 0), ("low_hum", "b.ogg", 2_000)):
        soundfile.write(folder / label / name, 0.5 * sound[shift:], 16_000)
    assert inspect.main([str(folder)]) == 0
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if "same sound" in line]
    assert warning.startswith("warning: the same sound under two labels (1): hiss/a.wav ~ low_hum")


def test_a_table_and_a_named_dataset_are_accepted(folder, tmp_path, capsys):
    paths = sorted(folder.glob("*/*.wav"))
    rows = [f"{path},{path.parent.name},{1 + i % 2}" for i, path in enumerate(paths)]
    table = tmp_path / "clips.csv"
    table.write_text("\n".join(["filename,label,fold", *rows]))
    assert inspect.main([str(table)]) == 0
    assert "clips: 10 clips of 2 classes in 2 folds" in capsys.readouterr().out
    assert inspect.main(["--dataset", "folder", "--data-dir", str(folder)]) == 0
    assert "sounds: 10 clips" in capsys.readouterr().out


def test_unusable_data_is_an_error_in_one_line(folder, tmp_path, capsys):
    path = next(folder.glob("hiss/*.wav"))
    soundfile.write(path, np.full(800, np.nan), 8_000, "FLOAT")
    assert inspect.main([str(folder)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    last = shown.err.splitlines()[-1]
    assert last.startswith("training.inspect: error: 1 of 10 clips cannot be used: hiss/")
    assert inspect.main([str(tmp_path / "none")]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name either DATA or --dataset"),
        (["sounds", "--dataset", "demo"], "name either DATA or --dataset"),
        (["sounds", "--data-dir", "sounds"], "--data-dir belongs to --dataset"),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        inspect.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
