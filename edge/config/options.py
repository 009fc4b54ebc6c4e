"""How a dataclass of options is read from flags, a TOML file and the environment.

Options come in sections: the fields of a section are the options, the fields of the schema are the
sections. `min_seconds` in the section `decisions` is the flag `--min-seconds` and, in the file,

    [decisions]
    min-seconds = 0.5

Flags count over the file, the file over the environment, that over the defaults.
"""

import argparse
import math
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Schema = TypeVar("Schema")


class SettingsError(ValueError):
    """An option is unknown, of the wrong kind, out of range, or at odds with another."""


@dataclass(frozen=True)
class Limits:
    """The numbers that an option takes: finite ones within these."""

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


def option(
    default: Any,
    text: str,
    metavar: str | None = None,
    limits: Limits | None = None,
    environment: str | None = None,
    secret: bool = False,
    overrides_section: bool = False,
) -> Any:
    """A field of a section, with what its flag and its key need to know.

    Args:
        default: its value where it is not given.
        text: help; the default is added to it.
        metavar: stands for the value in the help.
        limits: of a number.
        environment: the variable that gives it too.
        secret: keep it out of the section's `repr`.
        overrides_section: given as a flag, the file's section does not count at all.
    """
    metadata = {
        "text": text,
        "metavar": metavar,
        "limits": limits or Limits(),
        "environment": environment,
        "overrides_section": overrides_section,
    }
    return field(default=default, metadata=metadata, repr=not secret)


def flag(name: str) -> str:
    """The flag of a field."""
    return f"--{_key(name)}"


def add_flags(parser: argparse.ArgumentParser, schema: type) -> None:
    """Add a flag for every option, in a group for each section.

    Args:
        parser: its namespace will hold the flags that were given, as `section.field`.
        schema: a dataclass of sections.
    """
    for section, cls in _sections(schema):
        first_line = (cls.__doc__ or section).partition("\n")[0]
        group = parser.add_argument_group(section, first_line)
        for item, kind in _options(cls):
            keywords = _flag_keywords(item, kind)
            group.add_argument(
                flag(item.name),
                dest=f"{section}.{item.name}",
                default=argparse.SUPPRESS,
                **keywords,
            )


def read_options(
    schema: type[Schema],
    flags: argparse.Namespace,
    config: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    ignored_sections: type | None = None,
    base: Path | None = None,
) -> Schema:
    """Put together what flags, file and environment say.

    Args:
        schema: a dataclass of sections.
        flags: as `add_flags`' parser read them.
        config: a TOML file, or None.
        environment: the variables.
        ignored_sections: a dataclass of further sections that the file may have. They are checked
            but do not count.
        base: another file, whose options count only over the defaults.

    Returns:
        An instance of `schema`.

    Raises:
        SettingsError: if the file is missing or no TOML, or an option is unknown, of the wrong
            kind, out of range, or at odds with another.
    """
    schemas = [schema, *([ignored_sections] if ignored_sections else [])]
    in_file, in_base = (
        {} if path is None else _read_file(path, schemas) for path in (config, base)
    )
    sections = {}
    for section, cls in _sections(schema):
        items = {item.name: (item, kind) for item, kind in _options(cls)}
        given = {
            name: vars(flags)[f"{section}.{name}"]
            for name in items
            if f"{section}.{name}" in vars(flags)
        }
        values = {
            name: _from_text(environment[item.metadata["environment"]], item, kind)
            for name, (item, kind) in items.items()
            if environment.get(item.metadata["environment"] or "")
        }
        if not any(items[name][0].metadata["overrides_section"] for name in given):
            values |= in_file.get(section, {})
        sections[section] = cls(**in_base.get(section, {}) | values | given)
    return schema(**sections)


def _sections(schema: type) -> list[tuple[str, type]]:
    hints = get_type_hints(schema)
    return [(item.name, hints[item.name]) for item in fields(schema)]


def _options(section: type) -> Iterator[tuple[Field[Any], Any]]:
    """The fields, each with its type less `None`."""
    hints = get_type_hints(section)
    for item in fields(section):
        hint = hints[item.name]
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        is_optional = NoneType in get_args(hint)
        yield item, kinds[0] if is_optional else hint


def _key(name: str) -> str:
    return name.replace("_", "-")


def _flag_keywords(item: Field[Any], kind: Any) -> dict[str, Any]:
    """What argparse needs to know."""
    text = item.metadata["text"].replace("%", "%%")
    if kind is bool:
        # A source is one of many; the others are switches, which the file may have set.
        switch = (
            "store_true" if item.metadata["overrides_section"] else argparse.BooleanOptionalAction
        )
        return {"action": switch, "help": text}
    if item.default is not None:
        text += f"; default: {item.default}"
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind), "help": text}

    def convert(value: str) -> Any:
        try:
            return _from_text(value, item, kind)
        except SettingsError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return {"type": convert, "metavar": item.metadata["metavar"], "help": text}


def _from_text(text: str, item: Field[Any], kind: Any) -> Any:
    """The value of a flag or a variable."""
    value: Any = text
    if kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            raise SettingsError(f"must be {_expected(item, kind)}, not {text!r}") from None
    return _checked(value, item, kind)


def _checked(value: Any, item: Field[Any], kind: Any) -> Any:
    """The value as the field holds it, if it is one that it takes."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is Path and isinstance(value, str) and value:
        value = Path(value).expanduser()
    if get_origin(kind) is Literal:
        fits = value in get_args(kind)
    elif kind in (int, float):
        fits = type(value) is kind and value in item.metadata["limits"]
    else:
        fits = isinstance(value, kind) and value != ""
    if not fits:
        received = f", not {value!r}" if item.repr else ""
        raise SettingsError(f"must be {_expected(item, kind)}{received}")
    return value


def _expected(item: Field[Any], kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if kind in (int, float):
        number = "a whole number" if kind is int else "a number"
        return f"{number} {item.metadata['limits']}"
    return {bool: "true or false", str: "a text", Path: "a path, as a text"}[kind]


def _read_file(path: Path, schemas: Iterable[type]) -> dict[str, dict[str, Any]]:
    """The file's sections, their keys as the fields are named."""
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # Not TOML, or not UTF-8.
        raise SettingsError(f"{path} is no TOML: {error}") from error
    sections = {name: cls for schema in schemas for name, cls in _sections(schema)}
    _refuse_unknown(content, sections, f"{path}: ", "section")
    return {
        name: _read_section(values, sections[name], path, name) for name, values in content.items()
    }


def _read_section(values: Any, section: type, path: Path, name: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: {name} must be a section, [{name}], not {values!r}")
    items = {_key(item.name): (item, kind) for item, kind in _options(section)}
    _refuse_unknown(values, items, f"{path}: [{name}] ", "key")
    result = {}
    for key, value in values.items():
        item, kind = items[key]
        try:
            checked = _checked(value, item, kind)
        except SettingsError as error:
            raise SettingsError(f"{path}: [{name}] {key} {error}") from None
        # Wherever the program is started, the file's paths mean the same.
        result[item.name] = path.parent / checked if isinstance(checked, Path) else checked
    return result


def _refuse_unknown(
    given: Mapping[str, Any], known: Mapping[str, Any], where: str, what: str
) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise SettingsError(f"{where}has no {what} {unknown[0]!r}. It takes: {', '.join(known)}")
