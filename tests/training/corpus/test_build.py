"""`python -m training.corpus build` from manifest to reader, with stops and faults."""

import csv
import errno
import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.training.corpus.sounds import (
    RATE_HZ,
    bursts,
    folder_entry,
    manifest,
    ogg,
    write,
    write_repository,
)
from training.corpus import Corpus
from training.corpus.__main__ import main
from training.corpus.shards import text_of
from training.corpus.sources import CorpusError


@pytest.fixture
def sounds(tmp_path):
    """A folder of three animals, one of them twice, and one broken file."""
    folder = tmp_path / "animals"
    for seed, name in enumerate(("dog/bark_1", "dog/bark_2", "owl/hoot")):
        write(folder / f"{name}.wav", bursts(seed))
    (folder / "copies").mkdir()
    (folder / "copies" / "bark.ogg").write_bytes(ogg(bursts(1)))
    (folder / "broken.wav").write_bytes((folder / "dog/bark_1.wav").read_bytes()[:5000])
    (folder / "LICENSE").write_text("CC0 1.0")
    return folder


def build(tmp_path, *entries, options=(), out="corpus"):
    path = manifest(tmp_path / "sources.toml", *entries)
    arguments = ["build", "--out", str(tmp_path / out), "--sources", str(path), "--workers", "2"]
    return main([*arguments, *map(str, options)])


def test_a_corpus_holds_each_sound_once(tmp_path, sounds, capsys):
    assert build(tmp_path, folder_entry(sounds, kind="animals")) == 0
    corpus = Corpus(tmp_path / "corpus")
    assert [one.path for one in corpus.recordings] == [
        *("copies/bark.ogg", "dog/bark_1.wav", "owl/hoot.wav"),
    ]
    assert len(corpus) == 3
    assert corpus.may_ship
    assert corpus.hours == pytest.approx(3 * 2 / 3600)
    assert [one.text for one in corpus.recordings] == ["copies bark", "dog bark", "owl hoot"]
    assert {one.kind for one in corpus.recordings} == {"animals"}
    samples = corpus.samples(1)
    assert samples.dtype == np.int16
    assert not samples.flags.writeable
    np.testing.assert_allclose(samples / 32_767, bursts(0), atol=1e-4)
    bad = (tmp_path / "corpus/bad_files.txt").read_text()
    assert bad.startswith("animals: broken.wav: truncated: 5,000 of")
    assert "CC0 1.0" in (tmp_path / "corpus/ATTRIBUTION.md").read_text()
    with (tmp_path / "corpus/sources.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["source"], row["recordings"], row["licence"]) == ("animals", "3", "CC0")
    assert (row["kinds"], row["weights_may_ship"]) == ("animals 0.002", "yes")
    receipt = json.loads((tmp_path / "corpus/corpus.json").read_text())
    assert (receipt["recordings"], receipt["copies_left_out"]) == (3, 1)
    assert "3 recordings" in capsys.readouterr().out


def test_other_licences_enter_only_on_demand_and_then_the_corpus_may_not_ship(tmp_path, sounds):
    other = tmp_path / "other"
    write(other / "train.wav", bursts(10))
    entries = (folder_entry(sounds), folder_entry(other, may_ship=False, held_out=True))
    assert build(tmp_path, *entries) == 0
    corpus = Corpus(tmp_path / "corpus")
    assert {one.source for one in corpus.recordings} == {"animals"}
    assert build(tmp_path, *entries, options=["--all-sources"]) == 0
    corpus = Corpus(tmp_path / "corpus")
    assert not corpus.may_ship
    assert [corpus.recordings[i].source for i in corpus.indices("held-out")] == ["other"]
    assert len(corpus.indices("train")) == 3
    assert build(tmp_path, *entries, options=["--only", "animals", "--all-sources"]) == 0
    assert Corpus(tmp_path / "corpus").may_ship
    with pytest.raises(ValueError, match="`split` must be one of train, held-out"):
        corpus.indices("test")


def test_a_clip_to_exclude_never_enters(tmp_path, sounds):
    """The clip is a part of one recording, and quieter; another is named by its number."""
    long = np.concatenate([bursts(20, 3.0), bursts(21, 5.0), bursts(22, 2.0)])
    write(sounds / "long.wav", long)
    write(sounds / "26806__someone__rooster.wav", bursts(23))
    write(tmp_path / "clips" / "1-9-A-0.wav", 0.5 * bursts(21, 5.0))
    write(tmp_path / "clips" / "1-9-A-1.wav", bursts(30, 5.0))
    options = ["--exclude-clips", tmp_path / "clips"]
    for _ in range(2):  # the second time, the similarities are known
        assert build(tmp_path, folder_entry(sounds), options=options) == 0
        corpus = Corpus(tmp_path / "corpus")
        assert {one.path for one in corpus.recordings} == {
            *("copies/bark.ogg", "dog/bark_1.wav", "owl/hoot.wav"),
        }
        assert corpus.receipt["recordings_with_excluded_clips"] == 1
    bad = (tmp_path / "corpus/bad_files.txt").read_text()
    assert "animals: long.wav: holds an excluded clip" in bad
    assert "26806__someone__rooster.wav: excluded, its name has Freesound's number 26806" in bad


def test_music_keeps_to_its_share(tmp_path, sounds):
    for seed in range(8):
        write(sounds / "music" / f"{seed}.wav", bursts(40 + seed, 0.5))
    entry = folder_entry(sounds, kinds={"music": ["*music*"]})
    assert build(tmp_path, entry, options=["--music-share", "0.2"]) == 0
    recordings = Corpus(tmp_path / "corpus").recordings
    music = sum(one.seconds for one in recordings if one.kind == "music")
    assert music == 1.5  # 0.2 of 7.5 s
    assert len(recordings) == 3 + 3


def test_a_source_that_fails_is_a_warning(tmp_path, sounds, capsys):
    gone = folder_entry(tmp_path / "gone")
    assert build(tmp_path, gone, folder_entry(sounds)) == 0
    assert "warning: gone: the folder" in capsys.readouterr().err
    assert "gone: the folder" in (tmp_path / "corpus/bad_files.txt").read_text()
    assert build(tmp_path, gone, out="none") == 1
    assert "error: No source has a usable sound: gone: the folder" in capsys.readouterr().err


def test_a_second_build_decodes_nothing(tmp_path, monkeypatch):
    commit = write_repository(tmp_path / "remote", {"dog.ogg": ogg(bursts(0, 0.5))})
    fields = {"repository": (tmp_path / "remote").as_uri(), "commit": commit}
    entry = {"name": "a", "fetch": "git", "licence": "CC0", "may_ship": True, **fields}
    assert build(tmp_path, entry) == 0
    before = (tmp_path / "corpus/index.csv").read_bytes()
    shutil.rmtree(tmp_path / "remote")
    assert build(tmp_path, {**entry, "note": "another"}) == 0
    assert (tmp_path / "corpus/index.csv").read_bytes() == before
    (tmp_path / "corpus/work/a.npz").write_bytes(b"damaged")
    assert build(tmp_path, entry) == 1  # decoded again, but the repository is gone


def test_a_full_disk_is_one_line_and_leaves_no_partial_file(tmp_path, sounds, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert build(tmp_path, folder_entry(sounds)) == 0
    with monkeypatch.context() as patch:
        patch.setattr("training.corpus.shards.check_space", full)
        assert build(tmp_path, folder_entry(sounds)) == 1
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith("training.corpus: error: The disk is full")
    )
    with pytest.raises(CorpusError, match="holds no complete corpus"):
        Corpus(tmp_path / "corpus")
    assert build(tmp_path, folder_entry(sounds)) == 0
    assert len(Corpus(tmp_path / "corpus")) == 3


@pytest.mark.slow
def test_a_killed_build_goes_on(tmp_path, sounds):
    """Killed while it decodes the second source; the first is not decoded again."""
    write(tmp_path / "more" / "train.wav", bursts(10))
    path = manifest(
        tmp_path / "sources.toml", folder_entry(sounds), folder_entry(tmp_path / "more")
    )
    code = """
import sys, time
from training.corpus import store
from training.corpus.__main__ import main
decode = store.decode
def slow(folder, path, *others):
    if path == "train.wav":
        print("waiting", flush=True)
        time.sleep(60)
    return decode(folder, path, *others)
store.decode = slow
main(sys.argv[1:])
"""
    arguments = ["build", "--out", str(tmp_path / "corpus"), "--sources", str(path)]
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "corpus/work/animals.npz").is_file()
    assert not (tmp_path / "corpus/corpus.json").exists()
    assert main(arguments) == 0
    assert len(Corpus(tmp_path / "corpus")) == 4


def test_wrong_options_are_one_line(tmp_path, sounds, capsys):
    assert build(tmp_path, folder_entry(sounds), options=["--only", "birds"]) == 1
    assert "has no source birds" in capsys.readouterr().err
    assert build(tmp_path, folder_entry(sounds, may_ship=False)) == 1
    assert "Add --all-sources" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        build(tmp_path, folder_entry(sounds), options=["--music-share", "0.6"])
    assert "must be at least 0 and below 0.5" in capsys.readouterr().err


def test_a_tagger_with_other_classes_is_refused(tmp_path, sounds, tiny_tagger, capsys):
    assert build(tmp_path, folder_entry(sounds), options=["--tagger", tiny_tagger]) == 1
    assert "must have AudioSet's 521 classes" in capsys.readouterr().err


def test_the_tagger_finds_the_kinds(tmp_path, sounds, tiny_tagger, monkeypatch):
    """With three classes in the place of AudioSet's, all of them speech."""
    monkeypatch.setattr("training.corpus.classes.NUM_CLASSES", 3)
    options = ["--tagger", tiny_tagger, "--speech-share", "0.49"]
    entries = (folder_entry(sounds, include=["dog/*"]), folder_entry(tmp_path / "m", kind="music"))
    write(tmp_path / "m" / "song.wav", bursts(9, 1.0))
    assert build(tmp_path, *entries, options=[*options, "--music-share", "0.49"]) == 1  # no rest
    monkeypatch.setattr("training.corpus.selection.kind_of_class", lambda _: "nature")
    assert build(tmp_path, *entries, options=options) == 0
    kinds = {one.path: one.kind for one in Corpus(tmp_path / "corpus").recordings}
    assert kinds["dog/bark_1.wav"] == "nature"


def test_a_damaged_corpus_is_one_line(tmp_path, sounds):
    assert build(tmp_path, folder_entry(sounds)) == 0
    (tmp_path / "corpus/shards/0000.npy").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"0000.npy cannot be read: .* Build it again"):
        Corpus(tmp_path / "corpus").samples(0)
    (tmp_path / "corpus/index.csv").write_text("source\na\n")
    with pytest.raises(CorpusError, match=r"index.csv cannot be read"):
        Corpus(tmp_path / "corpus")


def test_recordings_fill_several_shards(tmp_path, sounds, monkeypatch):
    monkeypatch.setattr("training.corpus.shards.SHARD_SAMPLES", 3 * RATE_HZ)
    assert build(tmp_path, folder_entry(sounds)) == 0
    corpus = Corpus(tmp_path / "corpus")
    assert [(one.shard, one.start) for one in corpus.recordings] == [(0, 0), (1, 0), (2, 0)]
    np.testing.assert_allclose(corpus.samples(2) / 32_767, bursts(2), atol=1e-4)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("usr/share/games/x/sounds/Animals/dogBark_02.ogg", "animals dog bark"),
        ("a/b/rain-on-roof (loop).wav", "rain on roof"),
        ("assets/audio/001.ogg", ""),
        ("birds/birds.ogg", "birds"),
    ],
)
def test_the_text_is_the_words_of_the_path(path, text):
    assert text_of(path) == text
