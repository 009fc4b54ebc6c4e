"""docs/api.md lists exactly the public API."""

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "api_page.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_page", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


api_page = load_script()


def test_page_is_up_to_date():
    page = api_page.PAGE.read_text(encoding="utf-8")
    # A plain comparison: pytest's difference of two long texts takes minutes.
    if page != api_page.api_page():
        pytest.fail("docs/api.md differs from the sources: python scripts/api_page.py")


@pytest.mark.parametrize("package", api_page.PACKAGES)
def test_listed_names_and_arguments_match_python(package):
    """The page is generated without imports; the imported modules must agree with it."""
    if package != "edge":
        pytest.importorskip("keras")
    module = importlib.import_module(package)
    listed = api_page.public_names(package)
    assert [found.name for found in listed] == module.__all__
    for found in listed:
        value = getattr(module, found.name)
        if not isinstance(found.node, api_page.Definition):
            continue
        assert value.__module__ == found.module
        # A dataclass without a docstring gets its signature as one.
        assert inspect.getdoc(value).split("(")[0] != found.name, f"{found.name} has no docstring"
        if not (inspect.isclass(value) and issubclass(value, Exception)):
            assert names_of(api_page.arguments(found.node)) == names_taken(value), found.name


def names_of(arguments):
    """Names in argument texts such as `x: int = 1`, without the bare star."""
    names = [text.split(":")[0].split("=")[0].strip("* ") for text in arguments]
    return [name for name in names if name]


def names_taken(value):
    """Argument names of a callable, without the `**kwargs` of Keras."""
    return [
        name
        for name, parameter in inspect.signature(value).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
