"""Options in sections, read from command-line flags, a TOML file and environment variables.

A schema is a dataclass whose fields are sections; a section is a dataclass whose fields are
options. The option `min_seconds` of the section `decisions` is the flag `--min-seconds` and, in the
file,

    [decisions]
    min-seconds = 0.5

Flags override the file, the file overrides the environment, and the environment overrides the
defaults. Sections have no options that are tuples.
"""

import argparse
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from edge.config.options import (
    OptionDetails,
    SettingsError,
    argument_keywords,
    check_value,
    details_of,
    flag,
    key,
    parse_value,
    typed_fields,
)

Schema = TypeVar("Schema")


def add_flags(parser: argparse.ArgumentParser, schema: type) -> None:
    """Add a flag for every option, in one group per section.

    Args:
        parser: its namespace will hold each given flag as `section.field`.
        schema: a dataclass of sections.
    """
    for section, cls in _sections(schema):
        first_line = (cls.__doc__ or section).partition("\n")[0]
        group = parser.add_argument_group(section, first_line)
        for item, kind in typed_fields(cls):
            group.add_argument(
                flag(item.name),
                dest=f"{section}.{item.name}",
                default=argparse.SUPPRESS,
                **argument_keywords(item, kind),
            )


def read_options(
    schema: type[Schema],
    flags: argparse.Namespace,
    config: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    ignored_sections: type | None = None,
    base: Path | None = None,
) -> Schema:
    """Combine flags, file and environment.

    Args:
        schema: a dataclass of sections.
        flags: namespace of the parser that `add_flags` extended.
        config: a TOML file, or None.
        environment: environment variables.
        ignored_sections: a dataclass of other sections that the file may have. They are checked,
            then ignored.
        base: another TOML file, which overrides only the defaults.

    Returns:
        An instance of `schema`.

    Raises:
        SettingsError: if the file is missing or is not TOML, or an option is unknown, has the wrong
            type, is out of range, or conflicts with another.
    """
    schemas = [schema, *([ignored_sections] if ignored_sections else [])]
    in_file, in_base = (
        {} if path is None else _read_file(path, schemas) for path in (config, base)
    )
    sections = {}
    for section, cls in _sections(schema):
        from_flags, from_environment, ignores_file = {}, {}, False
        for item, kind in typed_fields(cls):
            details = details_of(item) or OptionDetails()
            if f"{section}.{item.name}" in vars(flags):
                from_flags[item.name] = vars(flags)[f"{section}.{item.name}"]
                ignores_file |= details.overrides_section
            if text := environment.get(details.environment or ""):
                from_environment[item.name] = parse_value(text, item, kind)
        from_file = {} if ignores_file else in_file.get(section, {})
        sections[section] = cls(
            **in_base.get(section, {}) | from_environment | from_file | from_flags
        )
    return schema(**sections)


def _sections(schema: type) -> list[tuple[str, type]]:
    hints = get_type_hints(schema)
    return [(item.name, hints[item.name]) for item in fields(schema)]


def _read_file(path: Path, schemas: Iterable[type]) -> dict[str, dict[str, Any]]:
    """Read the sections of a file; its keys become names of fields."""
    try:
        # Editors on Windows begin a file with a byte order mark.
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # Not TOML, or not UTF-8.
        raise SettingsError(f"{path} is not TOML: {error}") from error
    sections = {name: cls for schema in schemas for name, cls in _sections(schema)}
    _refuse_unknown(content, sections, f"{path}: ", "section")
    return {
        name: _read_section(values, sections[name], path, name) for name, values in content.items()
    }


def _read_section(values: Any, section: type, path: Path, name: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: {name} must be a section, [{name}], not {values!r}")
    options = {key(item.name): (item, kind) for item, kind in typed_fields(section)}
    _refuse_unknown(values, options, f"{path}: [{name}] ", "key")
    result = {}
    for toml_key, value in values.items():
        item, kind = options[toml_key]
        try:
            checked = check_value(value, item, kind)
        except SettingsError as error:
            raise SettingsError(f"{path}: [{name}] {toml_key} {error}") from None
        # Paths in the file are relative to it, wherever the program starts.
        result[item.name] = path.parent / checked if isinstance(checked, Path) else checked
    return result


def _refuse_unknown(
    values: Mapping[str, Any], known: Mapping[str, Any], where: str, what: str
) -> None:
    unknown = [name for name in values if name not in known]
    if unknown:
        raise SettingsError(f"{where}has no {what} {unknown[0]!r}. Expected: {', '.join(known)}")
