"""Targets of a corpus: what the teacher hears, kept, continued and refused."""

import dataclasses

import numpy as np
import pytest

from tests.micro import PRESET
from training.pretraining import teacher as teacher_module
from training.pretraining.teacher import Grid, Targets, compute_targets
from training.runs.files import RunError


def test_targets_are_what_the_teacher_hears(targets, corpus, teacher) -> None:
    heard = targets[0]
    sound = corpus.samples(0).astype(np.float32) / 32_768
    start = round(3 * targets.grid.hop_seconds * 32_000)
    scores, embedding = teacher.hear_window(sound[start : start + teacher.window_samples])
    np.testing.assert_allclose(heard.scores[3], scores, atol=1e-3)
    np.testing.assert_allclose(heard.embeddings[3], embedding, rtol=2e-3, atol=2e-3)
    assert len(heard.scores) == targets.num_windows[0] == targets.grid.windows_in(3.0)
    assert len(heard.log_mels) == PRESET.front_end.frames_in(24_000)


def test_a_short_recording_has_one_window(targets) -> None:
    assert targets.num_windows[1] == 1
    assert len(targets[1].scores) == len(targets[1].embeddings) == 1


def test_an_interrupted_command_continues(tmp_path, corpus, teacher, monkeypatch) -> None:
    monkeypatch.setattr(teacher_module, "_PART_SECONDS", 0.5)  # a part for each recording or two
    front_end = PRESET.front_end
    complete = compute_targets(tmp_path, corpus, teacher, front_end)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-scores.npy")}
    assert len(written) > 1
    last = max(tmp_path.glob("*-counts.npy"))
    last.unlink()
    expected = complete[3].scores.copy()
    again = compute_targets(tmp_path, corpus, teacher, front_end)
    changed = [p for p, time in written.items() if p.stat().st_mtime_ns != time]
    assert [path.name[:5] for path in changed] == [last.name[:5]]
    np.testing.assert_array_equal(again[3].scores, expected)


def test_targets_of_another_front_end_or_corpus_are_refused(
    tmp_path, corpus, teacher, targets
) -> None:
    compute_targets(tmp_path, corpus, teacher, PRESET.front_end)
    other = dataclasses.replace(PRESET.front_end, fmax_hz=3000.0)
    with pytest.raises(RunError, match="another corpus, teacher or front end"):
        compute_targets(tmp_path, corpus, teacher, other)
    renamed = type(corpus)(dict(zip("abcd", corpus.waveforms, strict=True)))
    with pytest.raises(RunError, match="another corpus"):
        Targets(tmp_path, renamed)


def test_a_truncated_part_is_refused(tmp_path, corpus, teacher) -> None:
    compute_targets(tmp_path, corpus, teacher, PRESET.front_end)
    part = next(tmp_path.glob("*-scores.npy"))
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(RunError, match="incomplete targets"):
        Targets(tmp_path, corpus)


def test_a_teacher_with_longer_windows_is_refused(teacher) -> None:
    short = dataclasses.replace(PRESET.front_end, window_seconds=0.1)
    with pytest.raises(RunError, match="longer windows"):
        Grid.of(teacher, short)
