"""The manifest: what it accepts, and the packaged one."""

import pytest

from tests.training.corpus.sounds import folder_entry, manifest
from training.corpus.sources import CorpusError, Source, read_sources


def source(**changes):
    return Source("s", "folder", "CC0", True, folder="/sounds", **changes)


def test_the_packaged_manifest_pins_every_source():
    sources = read_sources()
    assert len(sources) > 100
    for one in sources:
        assert one.fetch in ("debian", "git")
        pin = one.sha256 if one.fetch == "debian" else one.commit
        assert len(pin) == (64 if one.fetch == "debian" else 40), one.name
        int(pin, 16)
    assert any(one.held_out for one in sources)
    assert any(not one.may_ship for one in sources)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fetch": "ftp"}, "`fetch` must be one of debian, git, folder"),
        ({"licence": ""}, "`licence` is missing"),
        ({"may_ship": "yes"}, "`may_ship` must be a bool"),
        ({"kind": "noise"}, "a kind must be one of .* Received: noise"),
        ({"fetch": "git", "repository": "https://example.org/a"}, "`commit` is missing"),
        ({"colour": "red"}, "unknown key `colour`"),
        ({"name": "a/b"}, "`name` must be usable as a file name"),
    ],
)
def test_a_wrong_entry_is_refused_in_one_line(tmp_path, changes, message):
    path = manifest(tmp_path / "m.toml", folder_entry(tmp_path, name="s") | changes)
    with pytest.raises(CorpusError, match=message) as caught:
        read_sources(path)
    assert "\n" not in str(caught.value)


def test_a_repeated_name_and_an_empty_manifest_are_refused(tmp_path):
    entry = folder_entry(tmp_path, name="s")
    with pytest.raises(CorpusError, match=r"must be unique. Repeated: s"):
        read_sources(manifest(tmp_path / "twice.toml", entry, entry))
    with pytest.raises(CorpusError, match="at least one"):
        read_sources(manifest(tmp_path / "empty.toml"))


def test_globs_choose_files_and_kinds():
    one = source(
        include=("Sounds/*",), exclude=("*/old/*",), kinds={"music": ["*music*"]}, kind="animals"
    )
    assert one.wants("sounds/dog.OGG")
    assert not one.wants("sounds/dog.txt")
    assert not one.wants("sounds/old/dog.ogg")
    assert not one.wants("other/dog.ogg")
    assert one.kind_of("sounds/Music/a.ogg") == "music"
    assert one.kind_of("sounds/dog.ogg") == "animals"


def test_the_key_changes_with_what_is_read_but_not_with_a_note():
    assert source().key == source(note="a note", held_out=True).key
    assert source().key != source(exclude=("a",)).key
