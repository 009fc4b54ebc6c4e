"""Custom recordings from class directories and from a CSV file."""

import shutil
import unicodedata

import numpy as np
import pytest
import soundfile

from tests.training.mixed_files import KINDS, TONES_HZ, write_tones
from training.datasets import DatasetError, load_dataset
from training.datasets.folder import fold_of


def write_sound(path, num_samples=800):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(num_samples, 0.25, np.float32), 8_000)


def write_table(root, text, files=()):
    root.mkdir(exist_ok=True)
    for name in files:
        write_sound(root / name)
    table = root / "clips.csv"
    table.write_text(text)
    return table


def write_files(root, *names):
    for name in names:
        write_sound(root / name)


def folds(dataset):
    return {clip.name: clip.fold for clip in dataset.clips}


def load(path):
    return load_dataset("folder", path, progress=False)


@pytest.fixture
def root(tmp_path):
    """Seven barks and six waves, in several formats and depths, with clutter beside them."""
    for number in range(7):
        write_sound(tmp_path / "dog_bark" / f"bark {number}.{'wav' if number % 2 else 'FLAC'}")
    for number in range(6):
        write_sound(tmp_path / "sea_waves" / "summer" / f"{number}.ogg")
    (tmp_path / "README.txt").write_text("notes")
    (tmp_path / ".git").mkdir()
    (tmp_path / "dog_bark" / ".DS_Store").write_text("clutter")
    (tmp_path / "dog_bark" / "._bark 1.wav").write_text("clutter")
    return tmp_path


def test_directories_become_labels(root):
    dataset = load(root)
    assert dataset.labels == ("dog bark", "sea waves")
    assert len(dataset.clips) == 13
    assert {clip.name for clip in dataset.clips} >= {
        "dog_bark/bark 1.wav",
        "sea_waves/summer/0.ogg",
    }
    assert dataset.clips[0].duration_seconds == 0.1
    (waveform,) = dataset.load([0], sample_rate_hz=16_000)
    assert len(waveform) == 1_600


def test_folds_depend_on_each_name_alone(root, tmp_path_factory):
    before = folds(load(root))
    assert set(before.values()) == {1, 2, 3, 4, 5}
    assert before["dog_bark/bark 1.wav"] == 1, "from the SHA-256 of the name"
    copy = shutil.copytree(root, tmp_path_factory.mktemp("copy") / "sounds")
    for number in range(20):
        write_sound(copy / "rain" / f"{number}.wav")
        write_sound(copy / "dog_bark" / f"new {number}.wav")
    (copy / "dog_bark" / "bark 3.wav").rename(copy / "dog_bark" / "bark three.wav")
    (copy / "sea_waves" / "summer" / "0.ogg").unlink()
    now = folds(load(copy))
    kept = before.keys() - {"dog_bark/bark 3.wav", "sea_waves/summer/0.ogg"}
    assert {name: now[name] for name in kept} == {name: before[name] for name in kept}


def test_names_that_are_not_unicode_have_folds():
    assert 1 <= fold_of("dog/\udcff.wav") <= 5


def test_decomposed_names_have_the_same_label_and_fold(tmp_path):
    listed = []
    for form in ("NFC", "NFD"):
        root = tmp_path / form
        write_files(root, *(f"sea/{number}.wav" for number in range(9)))
        for number in range(9):
            write_sound(root / unicodedata.normalize(form, f"Möwe/Möwe {number}.wav"))
        dataset = load(root)
        listed.append((dataset.labels, dataset.digest))
        assert len(dataset.load([0])) == 1
    assert listed[0] == listed[1]


def test_a_class_in_one_fold_is_rejected(root):
    write_sound(root / "rare_owl" / "one.wav")
    with pytest.raises(DatasetError, match=r"in one of the five folds.*: rare owl. Add a few"):
        load(root)
    other = next(
        name
        for name in (f"rare_owl/{number}.wav" for number in range(9))
        if fold_of(name) != fold_of("rare_owl/one.wav")
    )
    write_sound(root / other)
    assert "rare owl" in load(root).labels


def test_one_class_is_rejected(tmp_path):
    write_files(tmp_path, *(f"dog/{number}.wav" for number in range(9)))
    with pytest.raises(DatasetError, match=r"at least two labels.*Received: dog\.") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names", [("Dog", "dog"), ("dog_bark", "dog bark"), ("Dog  bark", "dog_bark")]
)
def test_labels_that_read_the_same_are_rejected(root, names):
    for name in names:
        write_files(root / "more", *(f"{name}/{number}.wav" for number in range(9)))
    with pytest.raises(DatasetError, match=" = ".join(map(repr, sorted(names)))):
        load(root / "more")
    rows = [f"{number}.wav,{names[number % 2]},{number}" for number in range(1, 5)]
    table = write_table(
        root / "table", "\n".join(["filename,label,fold", *rows]), [f"{n}.wav" for n in range(1, 5)]
    )
    with pytest.raises(DatasetError, match=" = ".join(map(repr, sorted(names)))):
        load(table)


def test_links_to_directories_and_files_are_followed(root, tmp_path_factory):
    archive = tmp_path_factory.mktemp("archive")
    write_files(archive, *(f"{number}.wav" for number in range(9)))
    expected = folds(load(root))
    (root / "owl").symlink_to(archive, target_is_directory=True)
    (root / "dog_bark" / "linked").symlink_to(archive, target_is_directory=True)
    (root / "dog_bark" / "link.wav").symlink_to(archive / "0.wav")
    expected |= {
        name: fold_of(name)
        for name in (
            *(
                f"{place}/{number}.wav"
                for place in ("owl", "dog_bark/linked")
                for number in range(9)
            ),
            "dog_bark/link.wav",
        )
    }
    assert folds(load(root)) == expected


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("../none.wav", r"are broken links or special files \(1\): dog_bark/link"),
        ("link", r"are broken links or special files \(1\): dog_bark/link"),
        ("..", r"are links to a directory above them \(1\): dog_bark/link"),
    ],
)
def test_unusable_links_are_named(root, target, message):
    (root / "dog_bark" / "link").symlink_to(target)
    with pytest.raises(DatasetError, match=message):
        load(root)


def test_clutter_is_skipped_and_counted_in_one_line(root, capsys):
    (root / "sea_waves" / "Thumbs.db").write_text("clutter")
    (root / "dog_bark" / "desktop.ini").write_text("clutter")
    write_sound(root / "__MACOSX" / "dog_bark" / "bark 1.wav")
    assert len(load(root).clips) == 13
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "skipped, because they are not recordings (7): .git, README.txt, __MACOSX, "
        "dog_bark/.DS_Store, dog_bark/._bark 1.wav and 2 more\n"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dog_bark/voice.m4a", r"have no known audio format \(1\): dog_bark/voice.m4a"),
        ("loose.wav", r"are not in a class directory \(1\): loose.wav"),
        ("empty/.keep", r"are empty \(1\): empty"),
        ("dog_bark/text.wav", r"1 of 14 clips .*dog_bark/text.wav \(unreadable"),
    ],
)
def test_unusable_entries_are_named(root, name, message):
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("no sound")
    with pytest.raises(DatasetError, match=message):
        load(root)


def test_table_with_folds_and_sources(tmp_path):
    files = ["a.wav", "b.wav", "sub/c.wav", "sub/d.wav"]
    table = write_table(
        tmp_path,
        "\ufefffilename,label,fold,source\n"
        "a.wav,dog_bark,1,tape 1\nb.wav,rain,1,tape 1\n"
        "sub/c.wav,dog_bark,2,t\n./sub/d.wav,rain,2,t\n",
        files,
    )
    dataset = load(table)
    assert dataset.labels == ("dog bark", "rain")
    assert [clip.name for clip in dataset.clips] == files
    assert dataset.split(2)[1].tolist() == [2, 3]
    assert dataset.clips[0].source == "tape 1"


def test_rows_with_several_labels_and_none(tmp_path):
    table = write_table(
        tmp_path,
        "filename,label,fold,start,end\n"
        "a.wav,rain; dog_bark,1,0,0.05\na.wav,,1,0.05,\nb.wav,rain;rain;,2,,\nc.wav,dog_bark,2,,\n",
        ["a.wav", "b.wav", "c.wav"],
    )
    dataset = load(table)
    assert dataset.labels == ("dog bark", "rain")
    assert [clip.labels for clip in dataset.clips] == [(1, 0), (), (1,), (0,)]
    assert dataset.truth(range(4)).tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]


def test_a_label_in_one_fold_is_rejected_where_clips_have_several(tmp_path):
    names = [f"{number}.wav" for number in range(9)]
    rows = [f"{name},{'dog;owl' if name == '3.wav' else 'dog'}" for name in names]
    table = write_table(tmp_path, "\n".join(["filename,label", *rows]), names)
    with pytest.raises(DatasetError, match=r"in one of the five folds.*: owl"):
        load(table)


def test_a_table_without_any_label_is_rejected(tmp_path):
    table = write_table(tmp_path, "filename,label,fold\na.wav,,1\nb.wav,,2\n", ["a.wav", "b.wav"])
    with pytest.raises(DatasetError, match="no label in any row"):
        load(table)


def test_sources_stay_together(tmp_path):
    names = [f"{tape}-{take}.wav" for tape in range(20) for take in range(1 + tape % 3)]
    tapes = [f"tape {name.split('-')[0]}" for name in names]
    rows = [
        f"{name},{'owl' if i % 2 else 'fox'},{tape}"
        for i, (name, tape) in enumerate(zip(names, tapes, strict=True))
    ]
    table = write_table(tmp_path, "\n".join(["filename,label,source", *rows]), names)
    assert folds(load(table)) == {
        name: fold_of(tape) for name, tape in zip(names, tapes, strict=True)
    }


def test_a_source_listed_in_two_folds_is_rejected(tmp_path):
    table = write_table(
        tmp_path, "filename,label,fold,source\na.wav,x,1,t\nb.wav,y,2,t\n", ["a.wav", "b.wav"]
    )
    with pytest.raises(DatasetError, match="one fold each"):
        load(table)


def write_tape(root, rows, columns="filename,label,start,end,fold"):
    """Two seconds that rise from 0 to 1, and a table of their segments."""
    soundfile.write(root / "tape.wav", np.arange(16_000) / 16_000, 8_000)
    return write_table(root, "\n".join([columns, *rows, ""]))


def test_segments_of_a_file(tmp_path):
    rows = ["tape.wav,dog,0.5,1,1", "tape.wav,cat,1.25,,1", "tape.wav,dog,,0.25,1", "b.wav,cat,,,2"]
    write_sound(tmp_path / "b.wav", 800)
    dataset = load(write_tape(tmp_path, rows))
    assert [clip.name for clip in dataset.clips] == [
        "tape.wav[0.500-1.000]",
        "tape.wav[1.250-2.000]",
        "tape.wav[0.000-0.250]",
        "b.wav",
    ]
    assert [clip.source for clip in dataset.clips] == ["tape.wav"] * 3 + ["b.wav"]
    assert [clip.duration_seconds for clip in dataset.clips] == [0.5, 0.75, 0.25, 0.1]
    waveforms = dataset.load(range(4), 8_000)
    assert [len(waveform) for waveform in waveforms] == [4_000, 6_000, 2_000, 800]
    assert [waveform[0] for waveform in waveforms[:3]] == [0.25, 0.625, 0.0]


def test_segments_of_a_file_share_a_fold(tmp_path):
    rows = [f"tape.wav,{label},{start},{start + 0.1}" for start, label in enumerate("xy")]
    rows += [f"{number}.wav,{label},," for number, label in enumerate("xxxxyyyy")]
    write_files(tmp_path, *(f"{number}.wav" for number in range(8)))
    dataset = load(write_tape(tmp_path, rows, "filename,label,start,end"))
    assert {clip.fold for clip in dataset.clips if clip.segment} == {fold_of("tape.wav")}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("-1,1", r"0 <= start < end .* \(1\): tape.wav\[-1.000-1.000\] of 2.000 s"),
        ("1,1", r"tape.wav\[1.000-1.000\] of 2.000 s"),
        ("1,2.2", r"tape.wav\[1.000-2.200\] of 2.000 s"),
        ("2,", r"tape.wav\[2.000-2.000\] of 2.000 s"),
        ("nan,1", r"tape.wav\[nan-1.000\]"),
        ("0,inf", r"tape.wav\[0.000-inf\]"),
        ("one,2", "line 2: .*'one'"),
    ],
)
def test_segments_outside_the_file_are_rejected(tmp_path, row, message):
    with pytest.raises(DatasetError, match=message):
        load(write_tape(tmp_path, [f"tape.wav,x,{row},1", "tape.wav,y,0,1,1"]))


def test_a_segment_may_end_slightly_after_the_file(tmp_path):
    write_sound(tmp_path / "b.wav")
    dataset = load(write_tape(tmp_path, ["tape.wav,x,1.5,2.05,1", "b.wav,y,,,2"]))
    assert dataset.clips[0].segment == (1.5, 2.0)
    assert len(dataset.load([0], 8_000)[0]) == 4_000


def test_a_segment_shorter_than_a_sample_is_rejected(tmp_path):
    write_sound(tmp_path / "b.wav")
    dataset = load(write_tape(tmp_path, ["tape.wav,x,1,1.00001,1", "b.wav,y,,,2"]))
    with pytest.raises(DatasetError, match=r"1 of 2 clips .*too short: 0 frames"):
        dataset.load([0, 1])


def test_unknown_columns_are_ignored_and_named(tmp_path, capsys):
    text = "filename,label,Fold,fold,note\na.wav,x,7,1,\nb.wav,y,7,2,loud\n"
    table = write_table(tmp_path, text, ["a.wav", "b.wav"])
    assert folds(load(table)) == {"a.wav": 1, "b.wav": 2}
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "ignored the columns Fold, note; optional ones are fold, source, start, end" in shown


def test_backslashes_separate_directories(tmp_path):
    table = write_table(
        tmp_path, "filename,label,fold\nsub\\a.wav,x,1\nb.wav,y,2\n", ["sub/a.wav", "b.wav"]
    )
    assert [clip.name for clip in load(table).clips] == ["sub/a.wav", "b.wav"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Received: none"),
        ("filename,class\na.wav,x\n", "must have the columns filename, label .*filename, class"),
        ("filename,label,label\na.wav,x,y\n", "each once. Received: filename, label, label"),
        ("filename,label\n", "no recordings"),
        ("filename,label\na.wav,x\nb.wav\n", "line 3: expected one value for each"),
        ("filename,label\na.wav,x,y\n", "line 2: expected one value for each"),
        ("filename,label,fold\na.wav,x,one\n", "line 2: .*'one'"),
        ("filename,label,fold\na.wav,x,1\na.wav,y,2\nb.wav,x,2\n", "unique. Repeated: a.wav"),
        ("filename,label,fold\na.wav,x,0\nb.wav,y,1\n", "numbered from 1"),
        ("filename,label,fold\na.wav,x,1\n", r"are not listed in clips.csv \(1\): b.wav"),
        (
            "filename,label,fold\na.wav,x,1\nb.wav,y,2\nc.wav,x,1\nd.wav,y,2\n",
            r"2 of 4 clips .*: c.wav \(missing\), d.wav \(missing\)",
        ),
    ],
)
def test_malformed_tables_are_rejected(tmp_path, text, message):
    table = write_table(tmp_path, text, ["a.wav", "b.wav"])
    with pytest.raises(DatasetError, match=message):
        load(table)


def test_an_existing_location_is_required(tmp_path):
    with pytest.raises(ValueError, match="`data_dir` must be"):
        load(None)
    with pytest.raises(DatasetError, match="does not exist"):
        load(tmp_path / "none")


def test_recordings_of_any_kind_become_the_same_waveforms(tmp_path):
    """The sounds that people have: their formats, depths, channels, rates and lengths, mixed."""
    write_tones(tmp_path)
    dataset = load(tmp_path)
    assert len(dataset.clips) == 2 * len(KINDS)
    assert dataset.labels == ("high", "low")
    clips = zip(dataset.clips, dataset.load(range(len(dataset.clips))), strict=True)
    for clip, waveform in clips:
        assert waveform.dtype == np.float32
        seconds = float(clip.path.stem.split()[2])
        # MP3 is padded to whole frames where its header does not count the samples.
        assert clip.duration_seconds == pytest.approx(seconds, abs=1e-3), clip.name
        assert len(waveform) == pytest.approx(32_000 * seconds, abs=32), clip.name
        times = np.arange(len(waveform)) / 32_000
        expected = 0.4 * np.sin(2 * np.pi * TONES_HZ[dataset.labels[clip.label]] * times)
        inside = slice(320, len(waveform) - 320)  # resampling and coding blur the edges
        error = (waveform - expected)[inside]
        assert np.sqrt(np.mean(error**2)) < 0.02, clip.name
