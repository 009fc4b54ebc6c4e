"""Thresholds survive a round trip through a file, and invalid files are refused in one line."""

import pytest

from edge.events.thresholds import ThresholdsError, read_thresholds, write_thresholds

LABELS = ("dog", "Glocke ♪", 'a "quoted" \\ label', "two\nlines", "del\x7f", "a.b = [c] # d", "")


def test_a_round_trip(tmp_path):
    thresholds = {label: (index + 1) / 7 for index, label in enumerate(LABELS)}
    path = tmp_path / "new" / "thresholds.toml"
    write_thresholds(path, thresholds, ["Two\nlines", "[thresholds]"])
    assert read_thresholds(path) == thresholds
    assert read_thresholds(path, LABELS) == thresholds
    assert path.read_text(encoding="utf-8").startswith("# Two lines\n# [thresholds]\n[thresholds]")


def test_files_edited_by_hand_are_read(tmp_path):
    path = tmp_path / "thresholds.toml"
    path.write_text("[thresholds]\ndog = 1\n'Glocke ♪' = 0.5 # louder\n", encoding="utf-8")
    assert read_thresholds(path, LABELS) == {"dog": 1.0, "Glocke ♪": 0.5}
    path.write_text("[thresholds]\n")
    assert read_thresholds(path) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[thresholds]\ncat = 0.5", r"'cat' must be a label of the model \(dog, Glocke ♪"),
        ("[thresholds]\ndog = 0", r"'dog' must be above 0 and at most 1\. Received: 0\."),
        ("[thresholds]\ndog = 1.01", r"Received: 1\.01"),
        ("[thresholds]\ndog = nan", r"Received: nan"),
        ("[thresholds]\ndog = true", r"Received: True"),
        ("[thresholds]\ndog = 'high'", r"Received: 'high'"),
        ("dog = 0.5", r"must have one table, \[thresholds\].*Received: dog\."),
        ("thresholds = 0.5", r"Received: thresholds\."),
        ("[thresholds]\ndog = 0.5\n[other]", r"Received: other, thresholds\."),
        ("", r"Received: nothing\."),
        ("[thresholds", r"is not a threshold file: "),
        ("[thresholds]\ndog = 0.5\ndog = 0.6", r"is not a threshold file: "),
    ],
)
def test_an_invalid_file_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "thresholds.toml"
    path.write_text(text)
    with pytest.raises(ThresholdsError, match=message) as refused:
        read_thresholds(path, LABELS)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value).replace("two\nlines", "")


def test_a_missing_or_binary_file_is_an_error(tmp_path):
    path = tmp_path / "thresholds.toml"
    with pytest.raises(FileNotFoundError):
        read_thresholds(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ThresholdsError, match="utf-8"):
        read_thresholds(path)


def test_a_value_out_of_range_leaves_the_file_unchanged(tmp_path):
    path = tmp_path / "thresholds.toml"
    write_thresholds(path, {"dog": 0.5})
    with pytest.raises(ValueError, match=r"threshold of 'dog' .* Received: 0\.0"):
        write_thresholds(path, {"dog": 0.0})
    assert read_thresholds(path) == {"dog": 0.5}
    assert list(tmp_path.iterdir()) == [path]
