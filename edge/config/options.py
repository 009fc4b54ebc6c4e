"""Dataclass fields as options: their flags, their help texts and the values they accept.

The field `min_seconds` is the flag `--min-seconds` and the key `min-seconds`. A command whose
options have no file needs only `CommandParser`, `typed_fields`, `flag` and `argument_keywords`;
`edge.config.sections` adds files and environment variables.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints


class SettingsError(ValueError):
    """An option is unknown, has the wrong type, is out of range, or conflicts with another."""


class CommandParser(argparse.ArgumentParser):
    """A parser that accepts no abbreviated flags and reports an error in one line.

    Args:
        program: name at the start of an error message; `prog` by default.
        options: arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, *, program: str | None = None, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self._program = program or self.prog

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        self.exit(2, f"{self._program}: error: {message} (see --help)\n")


@dataclass(frozen=True)
class Limits:
    """Range of a number, which must also be finite."""

    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.at_least <= value <= self.at_most and self.above < value < self.below

    def __str__(self) -> str:
        parts = [
            f"{name.replace('_', ' ')} {limit:g}"
            for name, limit in vars(self).items()
            if math.isfinite(limit)
        ]
        return " and ".join(parts) or "finite"


@dataclass(frozen=True)
class OptionDetails:
    """Arguments of `option`, as the metadata of a field holds them."""

    text: str = ""
    metavar: str | None = None
    limits: Limits = Limits()
    environment: str | None = None
    overrides_section: bool = False


def option(
    default: Any,
    text: str,
    metavar: str | None = None,
    limits: Limits | None = None,
    environment: str | None = None,
    secret: bool = False,
    overrides_section: bool = False,
) -> Any:
    """Make a field, with the details of its flag and its key.

    Args:
        default: value if nothing sets the option.
        text: help text; the default is appended.
        metavar: placeholder of the value in the help text.
        limits: range of a number.
        environment: variable that can set the option.
        secret: whether to hide the value in error messages and in the dataclass's `repr`.
        overrides_section: whether the flag replaces the file's complete section.
    """
    details = OptionDetails(text, metavar, limits or Limits(), environment, overrides_section)
    return field(default=default, metadata={"option": details}, repr=not secret)


def details_of(item: Field[Any]) -> OptionDetails | None:
    """Return what `option` stored in a field; None for any other field."""
    details: OptionDetails | None = item.metadata.get("option")
    return details


def flag(name: str) -> str:
    """Return the flag of a field."""
    return f"--{key(name)}"


def key(name: str) -> str:
    """Return the key of a field in a file."""
    return name.replace("_", "-")


def typed_fields(cls: type) -> Iterator[tuple[Field[Any], Any]]:
    """Yield each field of a dataclass with its type; `X | None` becomes `X`."""
    hints = get_type_hints(cls)
    for item in fields(cls):
        yield item, _without_none(hints[item.name])


def argument_keywords(item: Field[Any], kind: Any) -> dict[str, Any]:
    """Return the keywords of `ArgumentParser.add_argument` for a field, less `dest` and `default`.

    Args:
        item: a field of a dataclass, made by `option` or not. Only `option` gives it a help text
            and checks its value.
        kind: the field's type: int, float, bool, str, Path, a Literal of texts, or a tuple of fixed
            length of one of these; any of them `| None`. argparse returns a tuple as a list.
    """
    kind = _without_none(kind)
    details = details_of(item)
    help_text = {} if details is None else {"help": details.text.replace("%", "%%")}
    if kind is bool:
        # `--no-x` turns off what a file turned on. A flag that replaces the file's section needs
        # no such form.
        is_switch = details is not None and details.overrides_section
        return {"action": "store_true" if is_switch else argparse.BooleanOptionalAction} | help_text
    if details is not None and item.default is not None:
        help_text["help"] += f"; default: {item.default}"
    keywords: dict[str, Any] = {**help_text}
    if get_origin(kind) is tuple:
        keywords["nargs"] = len(get_args(kind))
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return keywords | {"choices": get_args(kind)}
    if details is None:
        return keywords | {"type": kind}

    def convert(text: str) -> Any:
        try:
            return parse_value(text, item, kind)
        except SettingsError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return keywords | {"type": convert, "metavar": details.metavar}


def parse_value(text: str, item: Field[Any], kind: Any) -> Any:
    """Convert the text of a flag or an environment variable to the field's type.

    Raises:
        SettingsError: if the field does not accept the value.
    """
    value: Any = text
    if kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            raise SettingsError(f"must be {_expected(item, kind)}, not {text!r}") from None
    return check_value(value, item, kind)


def check_value(value: Any, item: Field[Any], kind: Any) -> Any:
    """Return a value of a TOML file as the field's type.

    Raises:
        SettingsError: if the field does not accept the value.
    """
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is str and type(value) in (int, float):
        value = str(value)  # as in `serve = 8080`
    if kind is Path and isinstance(value, str) and value:
        value = Path(value).expanduser()
    if get_origin(kind) is Literal:
        is_valid = value in get_args(kind)
    elif kind in (int, float):
        is_valid = type(value) is kind and value in _limits(item)
    else:
        is_valid = isinstance(value, kind) and value != ""
    if not is_valid:
        received = f", not {value!r}" if item.repr else ""
        raise SettingsError(f"must be {_expected(item, kind)}{received}")
    return value


def _expected(item: Field[Any], kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if kind in (int, float):
        return f"{'a whole number' if kind is int else 'a number'} {_limits(item)}"
    return {bool: "true or false", str: "a non-empty string", Path: "a non-empty path"}[kind]


def _limits(item: Field[Any]) -> Limits:
    return (details_of(item) or OptionDetails()).limits


def _without_none(kind: Any) -> Any:
    kinds = [choice for choice in get_args(kind) if choice is not NoneType]
    return kinds[0] if NoneType in get_args(kind) else kind
