"""Fields of dataclasses as arguments of a command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from edge.config.options import (
    CommandParser,
    Limits,
    argument_keywords,
    flag,
    option,
    typed_fields,
)


@dataclass(frozen=True)
class Plain:
    """Fields without details."""

    epochs: int = 1
    rate_hz: float | None = None
    mixup: bool = True
    head: Literal["cscm", "pooled"] = "cscm"
    noise_db: tuple[float, float] = (1.0, 2.0)
    file: Path | None = None


@dataclass(frozen=True)
class Detailed:
    """Fields that `option` made."""

    share: float = option(0.5, "100% is all", "SHARE", Limits(above=0, at_most=1))
    range_db: tuple[int, int] = option((1, 2), "range", "DB", Limits(0, at_most=90))


def parse(cls, *arguments, **options):
    parser = CommandParser(prog="program command", **options)
    for item, kind in typed_fields(cls):
        parser.add_argument(flag(item.name), **argument_keywords(item, kind))
    return parser.parse_args(arguments)


def test_plain_fields_are_parsed_by_their_types():
    parsed = parse(
        Plain,
        *("--epochs=3", "--rate-hz=0.5", "--no-mixup", "--head=pooled"),
        *("--noise-db", "5", "6", "--file=a"),
    )
    assert vars(parsed) == {
        "epochs": 3,
        "rate_hz": 0.5,
        "mixup": False,
        "head": "pooled",
        "noise_db": [5.0, 6.0],
        "file": Path("a"),
    }


def test_each_number_of_a_tuple_is_checked(capsys):
    assert parse(Detailed, "--range-db", "3", "4").range_db == [3, 4]
    with pytest.raises(SystemExit, match="2"):
        parse(Detailed, "--range-db", "3", "91")
    assert "must be a whole number at least 0 and at most 90, not 91" in capsys.readouterr().err


def test_the_help_shows_text_metavar_and_default(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse(Detailed, "--help")
    output = " ".join(capsys.readouterr().out.split())
    assert "--share SHARE 100% is all; default: 0.5" in output


@pytest.mark.parametrize(
    ("options", "name"), [({}, "program command"), ({"program": "program"}, "program")]
)
def test_an_error_is_one_line_and_abbreviations_are_errors(options, name, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(Plain, "--epo=3", **options)
    expected = f"{name}: error: unrecognized arguments: --epo=3 (see --help)\n"
    assert capsys.readouterr().err == expected
