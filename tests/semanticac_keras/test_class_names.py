"""Names of a tagger's classes, with the tests' tagger of three scores."""

import shutil
import zipfile

import pytest

from semanticac_keras import Tagger, TaggerError, read_class_names

NAMES = ("Low hum", "Whistle, whistling", "Hiss")


@pytest.fixture
def tagger(tiny_tagger):
    return Tagger(tiny_tagger, 32_000)


@pytest.mark.parametrize(
    "text",
    [
        'index,mid,display_name\n0,/m/1,Low hum\n1,/m/2,"Whistle, whistling"\n2,/m/3,Hiss\n',
        "index\tmid\tdisplay_name\r\n0\t/m/1\tLow hum\r\n1\t/m/2\tWhistle, whistling\r\n2\t\tHiss",
        '\ufeffdisplay_name\nLow hum\n"Whistle, whistling"\nHiss\n',
        "Low hum\n Whistle, whistling \n\nHiss\n",
    ],
)
def test_a_table_or_one_name_a_line(text, tagger, tmp_path):
    (tmp_path / "names").write_text(text, encoding="utf-8", newline="")
    assert read_class_names(tagger, tmp_path / "names") == NAMES


def test_a_tagger_may_contain_its_list(tagger, tmp_path):
    path = tmp_path / "tagger.tflite"
    shutil.copy(tagger.path, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("description.json", "{}")
        archive.writestr("vocabulary.txt", "a\nb\n")
        archive.writestr("labels.txt", "\n".join(NAMES))
    packed = Tagger(path, 32_000)
    assert read_class_names(packed) == NAMES
    (tmp_path / "other.txt").write_text("x\ny\nz")
    assert read_class_names(packed, tmp_path / "other.txt") == ("x", "y", "z")


def refusal(tagger, path=None):
    with pytest.raises(TaggerError) as caught:
        read_class_names(tagger, path)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_wrong_lists_are_refused_in_one_line(tagger, tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("index,display_name\n0,a\n1\n2,c\n")  # a row without a name
    assert f"tagger's 3 scores. Received: 2 in {path}." in refusal(tagger, path)
    path.write_text("")
    assert f"Received: 0 in {path}." in refusal(tagger, path)
    path.write_bytes(b"\xff\xfea")
    assert "must be UTF-8 text" in refusal(tagger, path)


def test_a_tagger_without_a_list_asks_for_one(tagger, tmp_path):
    assert "Give one (--tagger-labels), such as yamnet_class_map.csv" in refusal(tagger)
    path = tmp_path / "tagger.tflite"
    shutil.copy(tagger.path, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "a\nb\n")
    assert f"Received: 2 in {path}/labels.txt." in refusal(Tagger(path, 32_000))
