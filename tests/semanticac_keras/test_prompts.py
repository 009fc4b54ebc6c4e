import pytest

from semanticac_keras.prompts import fill, texts_by_label

LABELS = ("dog bark", "rain")


def test_prompts_are_filled_and_checked():
    assert fill("a clip of {label}", [" rain ", "{x}"]) == ("a clip of rain", "a clip of {x}")
    for prompt, labels, message in [
        ("a clip", ["rain"], "must contain"),
        ("{label}", [], "at least one"),
        ("{label}", ["rain", " "], "no blanks"),
        ("{label}", ["rain", "dog", "rain"], r"Repeated: \['rain'\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            fill(prompt, labels)


def test_a_label_has_one_text_or_several_or_its_name():
    assert texts_by_label(LABELS) == {"dog bark": ("dog bark",), "rain": ("rain",)}
    assert texts_by_label([" rain "], {"rain": " drops "}) == {"rain": ("drops",)}
    several = texts_by_label(LABELS, {"rain": ["rain", "drops"]})
    assert several == {"dog bark": ("dog bark",), "rain": ("rain", "drops")}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"wind": "wind"}, "must be of the labels dog bark, rain. Received: wind"),
        ({"rain": 3}, "must have one text, or a list of texts, for a label. Received: rain = 3"),
        ({"rain": []}, "Received: rain = "),
        ({"rain": ["drops", ""]}, "Received: rain = "),
        ({"rain": "dog bark"}, "must have each text once. Repeated: dog bark"),
        ({"rain": ["drops", "drops"]}, "Repeated: drops"),
    ],
)
def test_other_texts_are_refused_in_one_line(texts, message):
    with pytest.raises(ValueError, match=f"`label_texts` .*{message}") as caught:
        texts_by_label(LABELS, texts)
    assert len(str(caught.value).splitlines()) == 1
