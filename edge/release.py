"""The installed release."""

from importlib import metadata


def installed_version() -> str | None:
    """The version of the installed distribution; None if the code runs uninstalled."""
    try:
        return metadata.version("semanticac-keras")
    except metadata.PackageNotFoundError:
        return None
