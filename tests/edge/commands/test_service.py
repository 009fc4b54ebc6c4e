"""The printed unit is valid for systemd, restrictive, and free of secrets."""

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.cli import main
from edge.commands.service import add_arguments, make_unit
from edge.config.options import SettingsError
from edge.config.settings import read_settings

MOST_EXPOSED = 2.0

systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="needs systemd-analyze (apt-get install systemd)",
)


@pytest.fixture
def unit(log_mel_bundle):
    """`unit(*arguments)`: the unit for these options with the tiny model."""

    def make(*arguments, user=None):
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        parsed = parser.parse_args([*map(str, arguments), "--model", str(log_mel_bundle)])
        flags = {name: value for name, value in vars(parsed).items() if "." in name}
        return make_unit(read_settings(parsed), flags, parsed.config, user)

    return make


def settings_of(text):
    """Return the unit's values by key; the last one of a repeated key."""
    return dict(line.split("=", 1) for line in text.splitlines() if re.match(r"\w+=", line))


def analyze(command, path, *options):
    """Return the output of systemd-analyze."""
    done = subprocess.run(
        ["systemd-analyze", command, *options, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@systemd
@pytest.mark.parametrize(
    "arguments",
    [
        ["--mic"],
        ["--device", 'My "USB" $mic, 50 % \\o/; its name', "--json", "--serve", "8765"],
        ["--url", "rtsp://camera/", "--mqtt", "mqtts://me@broker", "--mqtt-password-file", "/p"],
        ["--mic", "--serve", "0.0.0.0:80", "--token-file", "/t", "--clips", "/srv/my clips"],
    ],
)
@pytest.mark.parametrize("user", [None, "root"])
def test_systemd_accepts_the_unit_and_rates_its_exposure_low(unit, tmp_path, arguments, user):
    path = tmp_path / "semanticac.service"
    path.write_text(unit(*arguments, user=user).text)
    assert analyze("verify", path) == ""
    if user is None:
        (score,) = re.findall(
            r"exposure level .*: ([\d.]+)", analyze("security", path, "--offline=yes")
        )
        print(f"exposure of {' '.join(arguments)}: {score}")
        assert float(score) <= MOST_EXPOSED


def test_the_command_line_is_complete_and_its_paths_absolute(
    unit, log_mel_bundle, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    config = Path("edge.toml")
    config.write_text("[outputs]\njson = true\n")
    text = unit("--config", config, "--device", "a b", "--no-json", "--clips", "c").text
    command = settings_of(text)["ExecStart"]
    assert re.match(r"/\S+ (-m edge )?--config ", command)
    assert f"--config {tmp_path}/edge.toml" in command
    assert '--device "a b" --no-json' in command
    assert f"--clips {tmp_path}/c" in command
    assert f"--model {log_mel_bundle}" in command
    assert f"ReadWritePaths={tmp_path}/c" in text


def test_the_model_comes_from_the_file_or_a_flag(log_mel_bundle, monkeypatch, tmp_path, capsys):
    """A reload reads the file again, but the service does not inherit the environment."""
    config = tmp_path / "edge.toml"
    config.write_text(f"[source]\nmic = true\n[model]\nmodel = '{log_mel_bundle}'\n")
    monkeypatch.delenv("SEMANTICAC_MODEL", raising=False)
    main(["install-service", "--config", str(config)])
    assert "--model" not in settings_of(capsys.readouterr().out)["ExecStart"]
    monkeypatch.setenv("SEMANTICAC_MODEL", str(log_mel_bundle))
    main(["install-service", "--mic"])
    command = settings_of(capsys.readouterr().out)["ExecStart"]
    assert command.endswith(f"--mic --model {log_mel_bundle}")


def test_secrets_are_systemd_credentials(unit):
    values = unit(
        *("--mic", "--mqtt", "mqtts://me@broker", "--mqtt-password-file", "/root/mqtt"),
        *("--serve", "0.0.0.0:80", "--token-file", "/root/token"),
    )
    assert "LoadCredential=mqtt-password:/root/mqtt\n" in values.text
    assert "LoadCredential=page-token:/root/token\n" in values.text
    command = settings_of(values.text)["ExecStart"]
    assert "--mqtt-password-file %d/mqtt-password" in command
    assert "--token-file %d/page-token" in command
    assert "/root" not in command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--file", "a.wav"], "a service needs a live source: --mic, --device or --url"),
        (["--mic", "--live"], "a service has no terminal for --live"),
        (["--mic", "--serve", "80", "--token", "secret"], "with --token-file"),
        (["--url", "rtsp://me:secret@camera/"], "the password in --url"),
        (["--mic", "--mqtt", "mqtt://me:secret@broker"], "with --mqtt-password-file"),
        (["--mic", "--mqtt", "mqtt://me@broker"], "give the broker's password"),
    ],
)
def test_unusable_options_and_visible_secrets_are_refused(unit, arguments, message):
    with pytest.raises(SettingsError) as caught:
        unit(*arguments)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_unknown_user_is_refused(unit):
    with pytest.raises(SettingsError, match="there is no user 'nobody-of-that-name'"):
        unit("--mic", user="nobody-of-that-name")


@pytest.mark.parametrize(
    ("arguments", "families", "network"),
    [
        (["--mic", "--json"], "AF_UNIX", {"PrivateNetwork": "yes", "IPAddressDeny": "any"}),
        (["--mic", "--serve", "80"], "AF_UNIX AF_INET AF_INET6", {"IPAddressAllow": "localhost"}),
        (["--mic", "--mqtt", "mqtt://broker"], "AF_UNIX AF_INET AF_INET6", {}),
        (["--url", "http://radio/"], "AF_UNIX AF_INET AF_INET6", {"PrivateDevices": "yes"}),
    ],
)
def test_the_unit_allows_only_what_the_options_need(unit, arguments, families, network):
    values = settings_of(unit(*arguments).text)
    assert values["RestrictAddressFamilies"] == families
    chosen = {"PrivateNetwork", "IPAddressDeny", "IPAddressAllow", "PrivateDevices"} & set(values)
    assert {name: values[name] for name in chosen} == {
        **network,
        **({"IPAddressDeny": "any"} if "IPAddressAllow" in network else {}),
    }
    assert ("DeviceAllow" in values) == (arguments[0] == "--mic")


def test_files_that_the_service_cannot_use_are_warnings(unit, tmp_path):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "edge.toml").write_text("")
    arguments = ["--mic", "--config", private / "edge.toml", "--clips", "/srv/clips"]
    warnings = unit(*arguments).warnings
    assert any(warning.startswith(f"{private}/edge.toml cannot be read") for warning in warnings)
    assert (
        "/none does not exist" in unit("--mic", "--serve", "80", "--token-file", "/none").warnings
    )
    assert any(warning.startswith("/srv/clips cannot be written") for warning in warnings)
    warnings = unit(*arguments, user="root").warnings
    assert not any("cannot be" in warning for warning in warnings)
    assert "/var/lib" not in str(unit("--mic", "--clips", "/var/lib/semanticac/clips").warnings)


def test_stdout_holds_only_the_unit(log_mel_bundle, capsys):
    assert main(["install-service", "--mic", "--model", str(log_mel_bundle)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("[Unit]\n")
    assert settings_of(printed.out)["Type"] == "notify"
    assert all("semanticac-edge: warning: " in line for line in printed.err.splitlines())
