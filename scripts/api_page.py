"""Write docs/api.md: what the packages promise, from their sources alone.

    python scripts/api_page.py            # writes the page
    python scripts/api_page.py --check    # exits 1 if the page is not what the sources say

Nothing is imported, so that the page is the same whatever is installed.
"""

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
PACKAGES = ("edge", "semanticac_keras", "training.datasets")
COMMAND_PACKAGES = ("semanticac_keras", "training")

_INTRODUCTION = """# Public API

What stands here is what programs may rely on; everything else may change with any release. Written
by `python scripts/api_page.py` from each package's `__all__` and docstrings: do not edit.
"""
_COMMANDS = """## Commands

Each prints its options with `--help`.

| command | what it does |
| --- | --- |
| `semanticac-edge` | Listen to a microphone, a stream, a file or a pipe. |
| `semanticac-edge tune` | Choose thresholds by false accepts an hour. |
| `semanticac-edge check` | Try what a configuration names, and say what it would do. |
| `semanticac-edge install-service` | Print a systemd unit. |
"""
_SECTION = re.compile(r"(Args|Attributes|Call arguments|Raises|Returns|Source|Yields):(?: (.*))?")
# What Keras calls by name; the class's own text says what goes in and comes out.
_LAYER_METHODS = frozenset(
    {"build", "call", "compute_loss", "compute_output_shape", "from_config", "get_config"}
)

Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Name:
    """A public name.

    Args:
        name: as `__all__` has it.
        module: dotted module that defines it.
        node: its definition; of a constant, the assigned value.
        comment: of a constant, the type it is annotated with.
    """

    name: str
    module: str
    node: ast.AST
    comment: str = ""


def public_names(package: str) -> list[Name]:
    """What a package exports, in the order of `__all__`.

    Raises:
        LookupError: if a name of `__all__` is neither defined nor imported there.
    """
    tree = _parse(package)
    exported = ast.literal_eval(_assigned(tree, "__all__")[0])
    return [_find(package, name) for name in exported]


def api_page() -> str:
    """The whole page as Markdown."""
    parts = [_INTRODUCTION]
    for package in PACKAGES:
        parts.append(f"## `{package}`\n\n{_text(ast.get_docstring(_parse(package)) or '')}\n")
        parts.extend(_entry(name) for name in public_names(package))
    return "\n".join(parts) + "\n" + _COMMANDS + "".join(_commands())


def _path(module: str) -> Path:
    base = ROOT.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _parse(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))


def _assigned(tree: ast.Module, name: str) -> tuple[ast.expr, str]:
    """The value that a module gives to a name, and its annotation."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and node.value and ast.unparse(node.target) == name:
            return node.value, ast.unparse(node.annotation)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return node.value, ""
    raise LookupError(name)


def _find(module: str, name: str) -> Name:
    """Follow a name through imports to where it is defined."""
    tree = _parse(module)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return Name(name, module, _with_constructor(node, tree))
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return Name(name, module, node)
        if isinstance(node, ast.ImportFrom) and node.module:
            for imported in node.names:
                if (imported.asname or imported.name) == name:
                    return _find(node.module, imported.name)
    try:
        value, annotation = _assigned(tree, name)
    except LookupError:
        raise LookupError(f"{module} exports {name!r}, which it does not have") from None
    return Name(name, module, value, annotation)


def _with_constructor(node: ast.ClassDef, tree: ast.Module) -> ast.ClassDef:
    """A class with its own `__init__`, or that of a base which the same module defines."""
    bases = {ast.unparse(base) for base in node.bases}
    for other in tree.body:
        if any(map(_is_constructor, node.body)):
            break
        if isinstance(other, ast.ClassDef) and other.name in bases:
            node.body.extend(filter(_is_constructor, _with_constructor(other, tree).body))
    return node


def _is_constructor(member: ast.stmt) -> bool:
    return isinstance(member, ast.FunctionDef) and member.name == "__init__"


def _entry(name: Name) -> str:
    """A name's heading, signature and text."""
    node = name.node
    heading = f"### `{name.name}`\n\n"
    if not isinstance(node, Definition):
        kind = f", `{name.comment}`" if name.comment else ""
        return f"{heading}Constant of `{name.module}`{kind}.\n"
    kind = "Class" if isinstance(node, ast.ClassDef) else "Function"
    lines = [f"{heading}{kind} of `{name.module}`.\n", _code(_signature(node))]
    lines.append(_text(ast.get_docstring(node) or "") + "\n")
    if isinstance(node, ast.ClassDef) and (members := list(_public_members(node))):
        lines += ["**Members:**\n", "".join(_member(member) for member in members)]
    return "\n".join(lines)


def _member(node: ast.FunctionDef) -> str:
    """A bullet with a member's signature and the first line of its text."""
    summary = (ast.get_docstring(node) or "").split("\n")[0]
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    signature = node.name if "property" in decorators else _one_line(node)
    return f"- `{signature}`: {_escape(summary)}\n"


def _public_members(node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    for member in node.body:
        if (
            isinstance(member, ast.FunctionDef)
            and not member.name.startswith("_")
            and member.name not in _LAYER_METHODS
            and ast.get_docstring(member)
        ):
            yield member


def _signature(node: Definition) -> str:
    """How it is called, over several lines if it is long."""
    line = _one_line(node)
    if len(line) <= 90:
        return line
    rows = "".join(f"    {item},\n" for item in arguments(node))
    return f"{node.name}(\n{rows}){_result(node)}"


def _one_line(node: Definition) -> str:
    return f"{node.name}({', '.join(arguments(node))}){_result(node)}"


def _result(node: Definition) -> str:
    returns = node.returns if isinstance(node, ast.FunctionDef) else None
    return f" -> {ast.unparse(returns)}" if returns else ""


def arguments(node: Definition) -> list[str]:
    """Each argument with its type and default, but `self`, `cls` and Keras' `**kwargs`.

    A class has those of its `__init__`, or the fields of a dataclass or named tuple.
    """
    if isinstance(node, ast.ClassDef):
        for member in node.body:
            if isinstance(member, ast.FunctionDef) and _is_constructor(member):
                return arguments(member)
        return [ast.unparse(field) for field in node.body if isinstance(field, ast.AnnAssign)]
    given = node.args
    plain = given.posonlyargs + given.args
    defaults = [None] * (len(plain) - len(given.defaults)) + list(given.defaults)
    pairs = [
        pair for pair in zip(plain, defaults, strict=True) if pair[0].arg not in ("self", "cls")
    ]
    texts = [_argument(argument, default) for argument, default in pairs]
    if given.vararg:
        texts.append(f"*{ast.unparse(given.vararg)}")
    elif given.kwonlyargs:
        texts.append("*")
    keyword_only = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    return texts + [_argument(argument, default) for argument, default in keyword_only]


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    text = ast.unparse(argument)
    if default is None:
        return text
    equals = " = " if argument.annotation else "="
    return f"{text}{equals}{ast.unparse(default)}"


def _text(docstring: str) -> str:
    """A docstring as Markdown: its sections become lists."""
    lines, section = [], ""
    for line in inspect.cleandoc(docstring).split("\n"):
        if match := _SECTION.fullmatch(line):
            section = match[1]
            lines.append(f"**{section}:** {_escape(match[2] or '')}".rstrip())
            lines.append("")
        elif section and line.startswith("    ") and section not in ("Returns", "Source", "Yields"):
            item = re.fullmatch(r"    ([\w`*., ]+?): (.*)", line)
            lines.append(
                f"- `{item[1].strip('`')}`: {_escape(item[2])}"
                if item and not line.startswith("     ")
                else f"  {_escape(line.strip())}"
            )
        else:
            lines.append(_escape(line.strip() if section else line))
    return "\n".join(lines).strip()


def _escape(line: str) -> str:
    """No HTML out of a text's angle brackets, outside of code."""
    pieces = re.split(r"(`[^`]*`)", line)
    return "".join(
        piece if piece.startswith("`") else piece.replace("<", "&lt;") for piece in pieces
    )


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def _commands() -> Iterator[str]:
    """A row for each module that can be run and is not private to another."""
    for package in COMMAND_PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            relative = path.relative_to(ROOT).with_suffix("")
            module = ".".join(relative.parts).removesuffix(".__main__")
            # Of a package that is a command, only `__main__` is for users.
            inner = path.name != "__main__.py" and (path.parent / "__main__.py").exists()
            if 'if __name__ == "__main__":' in source and not inner:
                text = (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]
                summary = re.sub(r": `python -m .*", "", text).rstrip(".")
                yield f"| `python -m {module}` | {summary}. |\n"


def main() -> int:
    """Run the command line; the exit status is 0, or 1 for a page that is not up to date."""
    parser = argparse.ArgumentParser(description="Write docs/api.md from the packages' sources.")
    parser.add_argument("--check", action="store_true", help="write nothing; compare")
    page = api_page()
    if parser.parse_args().check:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page:
            return 0
        print("docs/api.md differs from the sources: python scripts/api_page.py", file=sys.stderr)
        return 1
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
