"""`semanticac-edge check` reports which parts of a listener work, and why others fail."""

import re
import shutil
import socket
import time

import pytest
import soundfile

from edge.cli import main
from tests.edge.mosquitto import PASSWORD, USER, Authority, Mosquitto
from tests.edge.sound_server import SoundServer, missing_programs


@pytest.fixture
def check(log_mel_bundle, capsys, monkeypatch):
    """`check(*arguments)`: by the name of each check, whether it passed, and its text."""
    monkeypatch.delenv("SEMANTICAC_TOKEN", raising=False)

    def run(*arguments, model=log_mel_bundle):
        status = main(["check", "--model", str(model), *map(str, arguments)])
        printed = capsys.readouterr()
        assert printed.err == ""
        *lines, verdict = printed.out.splitlines()
        results = {}
        for line in lines:
            word, name, text = re.fullmatch(r"(ok|FAILED) +(\w+) +(.*)", line).groups()
            results[name] = (word == "ok", text)
        failures = sum(not ok for ok, _ in results.values())
        assert verdict == (
            f"{failures} of {len(results)} checks failed" if failures else "all checks passed"
        )
        assert status == (1 if failures else 0)
        return results

    return run


@pytest.fixture
def recording(tmp_path, make_sound):
    """A WAV file of two seconds."""
    path = tmp_path / "a.wav"
    soundfile.write(path, make_sound(64_000), 32_000)
    return path


def test_a_model_and_a_file_pass(check, recording):
    results = check("--file", recording, "--hop", 0.5)
    assert list(results) == ["model", "decisions", "source"]
    assert all(ok for ok, _ in results.values())
    assert re.search(
        r"model\.tflite: 5 labels, a window of 1 s every 0\.5 s, classified in \d+ ms \(\d+% of",
        results["model"][1],
    )
    assert re.fullmatch(rf"file {recording}, level -\d+ dBFS", results["source"][1])


def test_independent_labels_are_named(check, recording, independent_bundle):
    ok, text = check("--file", recording, model=independent_bundle)["model"]
    assert ok
    assert "independent.tflite: 5 independent labels, a window" in text


def test_the_other_checks_run_after_a_bad_model(check, recording, tmp_path):
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"no model")
    thresholds = tmp_path / "thresholds.toml"
    thresholds.write_text("[thresholds]\nrain = 7\n")
    results = check("--file", recording, "--thresholds", thresholds, model=bad)
    assert results["model"] == (False, results["model"][1])
    assert "is not a complete semanticac bundle" in results["model"][1]
    assert not results["decisions"][0]
    assert "the threshold of 'rain' must be above 0" in results["decisions"][1]
    assert results["source"][0]


def test_thresholds_of_another_model_fail(check, recording, tmp_path):
    thresholds = tmp_path / "thresholds.toml"
    thresholds.write_text("[thresholds]\ncat = 0.7\n")
    ok, text = check("--file", recording, "--thresholds", thresholds)["model"]
    assert not ok
    assert f"{thresholds}: 'cat' must be a label of the model (rain, " in text


def test_an_empty_file_and_a_missing_file_fail(check, tmp_path):
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, [], 32_000)
    assert check("--file", empty)["source"] == (False, f"no sound from file {empty}")
    assert check("--file", "none.wav")["source"] == (False, "No audio file at none.wav.")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_refused_stream_fails_soon(check):
    started = time.monotonic()
    ok, text = check("--url", "http://127.0.0.1:9/stream")["source"]
    assert not ok
    assert "Connection refused" in text
    assert time.monotonic() - started < 10  # and not after all of its patience


@pytest.mark.parametrize(
    ("gain", "hint"), [(1.0, ""), (1e-4, "; quiet: if there was sound"), (0.0, "; is it muted?")]
)
def test_the_level_is_judged(check, tmp_path, make_sound, gain, hint):
    path = tmp_path / "level.wav"
    soundfile.write(path, gain * make_sound(64_000), 32_000, subtype="FLOAT")
    ok, text = check("--file", path)["source"]
    assert ok
    assert text.partition(" dBFS")[2].startswith(hint)
    assert bool(hint) == (";" in text)


def test_a_directory_of_clips_must_be_writable(check, recording, tmp_path):
    clips = tmp_path / "new" / "clips"
    ok, text = check("--file", recording, "--clips", clips, "--clips-quota-mb", 0.001)["clips"]
    assert ok
    assert re.fullmatch(rf"{clips}: writable; quota 0\.001 MB, \d+ MB free", text)
    assert list(clips.iterdir()) == []
    ok, text = check("--file", recording, "--clips", clips, "--clips-quota-mb", 1e12)["clips"]
    assert text.endswith(" MB free, less than the quota")
    ok, text = check("--file", recording, "--clips", recording)["clips"]
    assert not ok
    assert str(recording) in text


def test_the_port_of_the_page_must_be_free_and_protected(check, recording, monkeypatch):
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ok, text = check("--file", recording, "--serve", port)["page"]
        assert not ok
        assert f"127.0.0.1 port {port}" in text
    ok, text = check("--file", recording, "--serve", port)["page"]
    assert (ok, text) == (True, f"http://127.0.0.1:{port}/, open to everyone")
    ok, text = check("--file", recording, "--serve", f"0.0.0.0:{port}")["page"]
    assert not ok
    assert "needs a token" in text
    monkeypatch.setenv("SEMANTICAC_TOKEN", "secret-secret-secret")
    ok, text = check("--file", recording, "--serve", f"0.0.0.0:{port}")["page"]
    assert ok
    assert text.endswith(", token required")


@pytest.mark.slow
# After a failed handshake, paho leaves its socket to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_a_broker_must_accept_certificate_and_password(check, recording, tmp_path, monkeypatch):
    pytest.importorskip("paho.mqtt")
    authority = Authority(tmp_path)
    password = tmp_path / "password"
    with Mosquitto(tmp_path, authority, {USER: PASSWORD}) as broker:
        url = f"mqtts://{USER}@localhost:{broker.port}"
        options = ["--file", recording, "--mqtt", url, "--mqtt-password-file", password]
        password.write_text(f"{PASSWORD}\n")
        ok, text = check(*options, "--mqtt-ca", authority.ca_file, "--mqtt-topic", "a/b")["mqtt"]
        assert (ok, text) == (
            True,
            f"{url}: connected; topics under a/b, with Home Assistant discovery",
        )
        ok, text = check(*options)["mqtt"]
        assert not ok
        assert "certificate" in text
        password.write_text("wrong")
        ok, text = check(*options, "--mqtt-ca", authority.ca_file)["mqtt"]
        assert not ok
        assert "Not authorized" in text
    ok, text = check(*options)["mqtt"]
    assert (ok, text) == (False, f"{url}: Connection refused")
    password.unlink()
    ok, text = check(*options)["mqtt"]
    assert not ok
    assert str(password) in text


@pytest.fixture
def server(monkeypatch):
    """A running sound server with a null sink as its microphone."""
    if reason := missing_programs():
        pytest.skip(reason)
    server = SoundServer()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.mark.slow
def test_a_microphone_is_captured(check, recording, server):
    ok, text = check("--mic")["source"]
    assert ok
    assert text.endswith("vmic.monitor, level -120 dBFS; is it muted?")
    playing = server.play(recording)
    ok, text = check("--device", "vmic.monitor")["source"]
    playing.kill()
    playing.wait()
    assert ok, text
    assert re.search(r"vmic\.monitor.*, level -\d\d dBFS", text)


def test_a_missing_microphone_fails(check, server, monkeypatch):
    monkeypatch.setattr("edge.commands.check._SOURCE_PATIENCE_SECONDS", 2.0)
    ok, text = check("--device", "cellar")["source"]
    assert not ok
    assert "there is no sound device 'cellar'" in text
