"""Flags and the configuration file set the same options."""

import argparse
from dataclasses import fields
from pathlib import Path

import pytest

from edge.config.options import SettingsError
from edge.config.sections import add_flags, read_options
from edge.config.settings import Settings

# A non-default value for every option; the first four of a source belong together.
VALUES = {
    "source": {
        "stdin": True,
        "rate": 48_000,
        "channels": 2,
        "format": "f32le",
        "channel": "right",
        "high-pass": 150,
        "gain": "auto",
    },
    "model": {"model": "/m.tflite", "hop": 0.5, "threads": 3},
    "decisions": {
        "threshold": 0.25,
        "thresholds": "/thresholds.toml",
        "smoothing": 4.5,
        "release": 0.75,
        "min-seconds": 1.5,
        "max-seconds": 60,
        "refractory": 0.5,
        "cosine-floor": -0.1,
        "report-unknown": True,
        "gate-dbfs": -60,
    },
    "outputs": {
        "json": True,
        "top": 7,
        "events-only": True,
        "mqtt": "mqtts://user@broker",
        "mqtt-password-file": "/password",
        "mqtt-ca": "/ca.pem",
        "mqtt-topic": "house/ears",
        "mqtt-discovery": False,
        "clips": "/clips",
        "clips-quota-mb": 12.5,
        "serve": "0.0.0.0:8765",
        "token-file": "/token",
        "page-url": "https://ears.example.org/",
    },
}
# Options that conflict with those of VALUES.
CONFLICTING = {
    "source": {"mic": True, "device": "USB", "file": "/a.wav", "url": "rtsp://camera/"},
    "outputs": {"live": True, "text": True, "token": "abcdefghijklmnopqrst"},
}


def toml(values):
    """Write the values as a configuration file."""
    lines = []
    for section, options in values.items():
        lines.append(f"[{section}]")
        for key, value in options.items():
            shown = str(value).lower() if isinstance(value, bool) else repr(value)
            lines.append(f"{key} = {shown}")
    return "\n".join(lines)


def flags(values):
    """Write the values as command-line arguments."""
    arguments = []
    for options in values.values():
        for key, value in options.items():
            if isinstance(value, bool):
                arguments.append(f"--{key}" if value else f"--no-{key}")
            else:
                arguments.append(f"--{key}={value}")
    return arguments


@pytest.fixture
def read(tmp_path):
    """`read(arguments, config, **environment)`: settings from flags, TOML text and variables."""

    def read(arguments, config=None, **environment):
        parser = argparse.ArgumentParser()
        add_flags(parser, Settings)
        path = None
        if config is not None:
            path = tmp_path / "edge.toml"
            path.write_bytes(config.encode(errors="surrogateescape"))
        return read_options(Settings, parser.parse_args(arguments), path, environment)

    return read


def with_one_source(name, value):
    return VALUES | {"source": {name: value}}


def test_these_tests_cover_every_option():
    for section in fields(Settings):
        known = {*VALUES[section.name], *CONFLICTING.get(section.name, {})}
        options = {item.name.replace("_", "-") for item in fields(section.type)}
        assert known == options


@pytest.mark.parametrize(
    "values",
    [
        VALUES,
        *(with_one_source(*item) for item in CONFLICTING["source"].items()),
        VALUES | {"outputs": {"live": True}},
        VALUES | {"outputs": {"text": True, "serve": "80", "token": "abcdefghijklmnopqrst"}},
    ],
)
def test_file_and_flags_give_the_same_settings(read, values):
    from_flags = read(flags(values))
    assert read([], toml(values)) == from_flags
    for section, options in values.items():
        for key, value in options.items():
            read_value = getattr(getattr(from_flags, section), key.replace("-", "_"))
            assert read_value == (Path(value) if isinstance(read_value, Path) else value)


def test_flags_override_the_file_and_the_file_overrides_the_environment(read):
    config = toml({"source": {"mic": True}, "model": {"model": "/file", "hop": 2.0}})
    variables = {"SEMANTICAC_MODEL": "/environment"}
    assert read(["--model=/flag"], config, **variables).model.model == Path("/flag")
    assert read([], config, **variables).model.model == Path("/file")
    assert read(["--mic"], **variables).model.model == Path("/environment")
    assert read(["--threads=2"], config).model.hop == 2.0


def test_a_source_on_the_command_line_replaces_the_source_in_the_file(read):
    config = toml({"source": VALUES["source"], "model": {"model": "/m"}})
    source = read(["--file=a.wav"], config).source
    assert (source.file, source.stdin, source.rate) == (Path("a.wav"), False, None)
    assert read(["--rate=8000"], config).source.rate == 8000


def test_flags_can_turn_off_switches_of_the_file(read):
    config = toml({"source": {"mic": True}, "model": {"model": "/m"}, "outputs": {"json": True}})
    assert read([], config).outputs.json
    assert not read(["--no-json"], config).outputs.json


def test_paths_in_the_file_are_relative_to_it(read, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    config = toml({"source": {"mic": True}, "model": {"model": "m"}, "outputs": {"clips": "~/c"}})
    settings = read([], config)
    assert settings.model.model == tmp_path / "m"
    assert settings.outputs.clips == Path("/home/someone/c")
    assert read(["--model=m"], config).model.model == Path("m")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("source = 1", "source must be a section, [source], not 1"),
        ("threshold = 0.5", "has no section 'threshold'. Expected: source, model, decisions"),
        ("[decision]", "has no section 'decision'. Expected: source, model, decisions, outputs"),
        ("[model]\nhops = 1", "[model] has no key 'hops'. Expected: model, hop, threads"),
        ("[decisions]\nmin_seconds = 1", "[decisions] has no key 'min_seconds'. Expected: thresh"),
        ("[model]\nhop = '1'", "[model] hop must be a number above 0 and at most 1e+06, not '1'"),
        ("[model]\nhop = nan", "[model] hop must be a number above 0 and at most 1e+06, not nan"),
        ("[model]\nhop = true", "[model] hop must be a number above 0"),
        ("[model]\nthreads = 1.0", "[model] threads must be a whole number at least 1 and at most"),
        ("[model]\nmodel = 1", "[model] model must be a non-empty path, not 1"),
        ("[model]\nmodel = ''", "[model] model must be a non-empty path, not ''"),
        ("[source]\nmic = 'yes'", "[source] mic must be true or false, not 'yes'"),
        ("[source]\ndevice = true", "[source] device must be a non-empty string, not True"),
        ("[source]\nformat = 'mp3'", "[source] format must be 's16le' or 'f32le', not 'mp3'"),
        ("[decisions]\nthreshold = 0", "[decisions] threshold must be a number above 0 and at mos"),
        ("[outputs]\ntoken = [12345]", "[outputs] token must be a non-empty string"),
        ("[model\n", "is not TOML: "),
        ("[model]\nmodel = '\udcff'", "is not TOML: "),
    ],
)
def test_an_error_in_the_file_is_located_and_explained(read, tmp_path, config, message):
    with pytest.raises(SettingsError) as caught:
        read(["--mic", "--model=m"], config)
    assert str(caught.value).startswith(str(tmp_path / "edge.toml"))
    assert message in str(caught.value)
    assert "12345" not in str(caught.value)


def test_a_number_in_the_file_may_be_a_text(read):
    settings = read([], "[source]\ndevice = 3\ngain = 6.5\n[outputs]\nserve = 8099")
    assert (settings.source.device, settings.source.gain) == ("3", "6.5")
    assert settings.outputs.serve == "8099"


def test_a_file_may_begin_with_a_byte_order_mark(read):
    assert read(["--mic"], "\ufeff[model]\nhop = 0.5").model.hop == 0.5


def test_a_missing_file_is_an_error():
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read: No such file"):
        read_options(Settings, argparse.Namespace(), Path("none.toml"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=m"], "give a source: one of --mic, --device, --file, --stdin, --url"),
        (["--mic", "--url=u"], "give one source, not --mic and --url"),
        (["--stdin"], "--stdin needs --rate"),
        (["--mic", "--rate=8000"], "--rate goes with --stdin"),
        (["--report-unknown"], "--report-unknown needs --cosine-floor"),
        (["--min-seconds=9", "--max-seconds=8"], "--min-seconds must be at most --max-seconds"),
        (["--text", "--json"], "--text and --json would mix on stdout"),
        (["--token-file=t"], "--token-file needs --serve"),
        (["--mqtt-topic=t"], "--mqtt-topic needs --mqtt"),
        (["--serve=80", "--token=a", "--token-file=t"], "give --token or --token-file, not both"),
        (["--serve=http"], "an address must be PORT, HOST:PORT or"),
        (["--mqtt=http://a"], "a broker's URL must be mqtt[s]://"),
        (["--channel=middle"], "a channel must be mix, left, right or a number from 1 to 256"),
        (["--gain=loud"], "a gain must be auto, or decibels from -60 to 60, not 'loud'"),
    ],
)
def test_conflicting_options_are_refused(read, arguments, message):
    if not {"--mic", "--stdin", "--model=m"} & set(arguments):
        arguments = ["--mic", "--model=m", *arguments]
    with pytest.raises(SettingsError) as caught:
        read(arguments)
    assert message in str(caught.value)


def test_repr_hides_secrets(read):
    secrets = ["--url=rtsp://me:secret@camera/", "--mqtt=mqtt://me:secret@broker"]
    settings = read([*secrets, "--serve=80", "--token=secret-secret-secret", "--model=m"])
    assert "secret" not in repr(settings)
