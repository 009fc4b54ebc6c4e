"""Copies leave, music and speech keep to their shares, kinds come from manifest and tagger."""

from dataclasses import replace

import numpy as np
import pytest

from tests.training.corpus.sounds import RATE_HZ, bursts
from training.corpus.classes import kind_of_class
from training.corpus.selection import Chosen, choose, copies, within_shares
from training.corpus.sources import Source
from training.corpus.store import Stored
from training.inspection.fingerprints import SAMPLE_RATE_HZ, track

SOURCE = Source("s", "folder", "CC0", True, folder="/s", kinds={"music": ["*music*"]})


def stored(path, length=RATE_HZ, waveform=None, sound_class=-1, digest=None):
    cells = track(np.zeros(0, np.float32) if waveform is None else waveform)
    return Stored(SOURCE, path, 0, length, digest or path, RATE_HZ, sound_class, cells)


def chosen(kind, seconds, count, name="a"):
    return [
        Chosen(stored(f"{name}{kind}{number}"), kind, 0, seconds * RATE_HZ)
        for number in range(count)
    ]


def hours(some):
    lengths: dict[str, float] = {}
    for one in some:
        lengths[one.kind] = lengths.get(one.kind, 0) + one.length / RATE_HZ
    return lengths


def test_exact_and_encoded_copies_leave_and_the_first_stays():
    waves = [bursts(seed, 2.0, SAMPLE_RATE_HZ) for seed in range(3)]
    quiet = 0.3 * np.concatenate([waves[1][:0], waves[1]])
    length = 2 * RATE_HZ
    recordings = [
        stored("a", length, waves[0], digest="one"),
        stored("b", length, waves[1]),
        stored("c", length, waves[2]),
        stored("d", length, waves[0], digest="one"),
        stored("e", round(1.05 * length), quiet),
        stored("f", 3 * length, waves[2]),  # of another length
    ]
    assert copies(recordings) == {3: 0, 4: 1}


def test_short_copies_are_found_by_their_samples_alone():
    wave = bursts(0, 0.5, SAMPLE_RATE_HZ)
    short = [stored(name, RATE_HZ // 2, wave, digest=digest) for name, digest in ("ax", "bx", "cy")]
    assert copies(short) == {1: 0}


@pytest.mark.parametrize(("music", "speech"), [(0.15, 0.15), (0.0, 0.3), (0.45, 0.45)])
def test_shares_are_obeyed_and_used(music, speech):
    some = [*chosen("music", 30, 100), *chosen("speech", 5, 300), *chosen("nature", 10, 40)]
    left = hours(within_shares(some, {"music": music, "speech": speech}))
    total = sum(left.values())
    assert left["nature"] == 400
    assert left.get("music", 0.0) <= music * total
    assert left["speech"] <= speech * total
    assert left.get("music", 0.0) >= music * total - 31 or left["music"] == 3000
    assert left["speech"] >= speech * total - 6 or left["speech"] == 1500


def test_what_fits_stays_whole_and_the_choice_does_not_depend_on_the_order():
    some = [*chosen("music", 30, 10), *chosen("nature", 60, 20)]
    shares = {"music": 0.15, "speech": 0.15}
    left = within_shares(some, shares)
    assert len(within_shares([*chosen("music", 1, 1), *chosen("nature", 60, 9)], shares)) == 10
    assert {one.stored.path for one in within_shares(some[::-1], shares)} == {
        one.stored.path for one in left
    }
    assert within_shares([], shares) == []


def test_music_is_cut_to_its_middle():
    one = choose(stored("music/a", 100 * RATE_HZ))
    assert (one.kind, one.start, one.length) == ("music", 35 * RATE_HZ, 30 * RATE_HZ)
    other = choose(stored("dog", 100 * RATE_HZ))
    assert (other.kind, other.start, other.length) == ("mixed", 0, 100 * RATE_HZ)


def test_the_tagger_names_the_kind_unless_the_manifest_says_music():
    dog, music, silence = 70, 132, 494
    assert choose(stored("a", sound_class=dog)).kind == "animals"
    assert choose(stored("a", sound_class=music)).kind == "music"
    assert choose(stored("a", sound_class=silence)).kind == "mixed"
    assert choose(stored("music/a", sound_class=dog)).kind == "music"
    tuned = replace(SOURCE, kind="machines")
    assert choose(replace(stored("a"), source=tuned)).kind == "machines"


@pytest.mark.parametrize(
    ("sound_class", "kind"),
    [
        *((-1, None), (0, "speech"), (13, "human"), (24, "music"), (42, "human"), (106, "animals")),
        *((276, "music"), (283, "nature"), (301, "vehicles"), (371, "household"), (389, "signals")),
        *((406, "machines"), (421, "weapons"), (437, "impacts"), (494, None), (520, None)),
    ],
)
def test_ranges_of_classes_have_kinds(sound_class, kind):
    assert kind_of_class(sound_class) == kind
