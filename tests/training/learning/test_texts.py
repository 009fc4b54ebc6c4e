import pytest

from training.learning.texts import read_texts

LABELS = ("dog bark", "rain")


def test_a_file_has_texts_of_some_labels(tmp_path):
    path = tmp_path / "texts.toml"
    path.write_text('rain = ["rain", "drops"]')
    assert read_texts(path, LABELS) == {"dog bark": ("dog bark",), "rain": ("rain", "drops")}
    assert read_texts(None, LABELS) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rain, drops", r"texts.toml must be TOML, such as \"dog\" = \"a dog\": "),
        ('wind = "wind"', "texts.toml: `label_texts` must be of the labels dog bark, rain. Rec"),
    ],
)
def test_other_files_are_refused_in_one_line(content, message, tmp_path):
    (tmp_path / "texts.toml").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_texts(tmp_path / "texts.toml", LABELS)
    assert len(str(caught.value).splitlines()) == 1
