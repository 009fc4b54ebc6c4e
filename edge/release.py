"""Which release this is."""

from importlib import metadata


def installed_version() -> str | None:
    """The installed distribution's version; None where the code runs without being installed."""
    try:
        return metadata.version("semanticac-keras")
    except metadata.PackageNotFoundError:
        return None
