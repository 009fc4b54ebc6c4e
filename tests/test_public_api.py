"""The public API is what docs/api.md lists, and what is listed is there."""

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
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


api_page = load_script()


def test_the_page_is_what_the_sources_say():
    page = api_page.PAGE.read_text(encoding="utf-8")
    # Not compared by pytest: its difference of two long texts takes minutes.
    if page != api_page.api_page():
        pytest.fail("docs/api.md differs from the sources: python scripts/api_page.py")


@pytest.mark.parametrize("package", api_page.PACKAGES)
def test_what_is_listed_is_there_and_called_so(package):
    """The page is made without importing anything; Python itself must agree with it."""
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
        # A dataclass without a text of its own is given its signature.
        assert inspect.getdoc(value).split("(")[0] != found.name, f"{found.name} has no text"
        if not (inspect.isclass(value) and issubclass(value, Exception)):
            assert names_of(api_page.arguments(found.node)) == names_taken(value), found.name


def names_of(arguments):
    """Names in texts such as `x: int = 1`, without the bare star."""
    names = [text.split(":")[0].split("=")[0].strip("* ") for text in arguments]
    return [name for name in names if name]


def names_taken(value):
    """What Python says; `**kwargs` are Keras' own."""
    return [
        name
        for name, parameter in inspect.signature(value).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
