"""Labels as parts of MQTT topics and file names."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable


def slug(label: str) -> str:
    """Lower-case ASCII letters and digits with `_` between words: `dog_bark` for `Dog (bark)`.

    A label without such letters, for example in another script, is replaced by its hash.
    """
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    words = re.findall("[a-z0-9]+", plain)
    return "_".join(words) or "x" + hashlib.sha256(label.encode()).hexdigest()[:8]


def slugs(labels: Iterable[str]) -> dict[str, str]:
    """A unique slug for each label: the second `dog_bark` becomes `dog_bark_2`."""
    taken: dict[str, str] = {}
    for label in labels:
        base = name = slug(label)
        count = 1
        while name in taken.values():
            count += 1
            name = f"{base}_{count}"
        taken[label] = name
    return taken
