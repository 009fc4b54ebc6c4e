"""`semanticac-edge install-service`: a sandboxed systemd unit with a watchdog."""

import argparse
import logging
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from edge.config.options import SettingsError, flag
from edge.config.settings import Settings, add_settings, read_settings
from edge.inference.packaged import is_packaged
from edge.sinks.broker import Broker
from edge.web import parse_address
from edge.web.address import is_loopback

_STATE = Path("/var/lib/semanticac")
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_PRIVATE = (Path("/tmp"), Path("/var/tmp"))
# systemd passes these files to the service, so no other user needs to read them.
_CREDENTIALS = {"outputs.mqtt_password_file": "mqtt-password", "outputs.token_file": "page-token"}
_MEGABYTE = 10**6

_UNIT = """\
[Unit]
Description=Sound listener (semanticac-edge)
Wants=network-online.target
After=network-online.target sound.target
# Restart without a limit.
StartLimitIntervalSec=0

[Service]
# notify-reload needs systemd 253 or newer.
Type=notify
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=5
# The listener pings with every chunk of sound, several times a second.
WatchdogSec=60
# The listener itself ends the process that captures sound.
KillMode=mixed
TimeoutStartSec=120
TimeoutStopSec=30
{identity}
StateDirectory=semanticac
WorkingDirectory=%S/semanticac
UMask=0027
# About twice what the model needs: a leak leads to a restart before the machine swaps.
MemoryMax={memory_mb}M
TasksMax=64

ProtectSystem=strict
{files}
PrivateTmp=yes
PrivateMounts=yes
{devices}
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
# ProcSubset=pid would hide /proc/cpuinfo, where XNNPACK reads the processor's features.
ProtectProc=invisible
{network}

NoNewPrivileges=yes
CapabilityBoundingSet=
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

DESCRIPTION = (
    "Print the unit of a systemd service that runs the listener with these options. As root: "
    "semanticac-edge install-service --config /etc/semanticac.toml "
    ">/etc/systemd/system/semanticac.service; systemctl enable --now semanticac"
)
_LOGGER = logging.getLogger("semanticac_edge")


class Unit(NamedTuple):
    """A unit file.

    Args:
        text: its content.
        warnings: problems that keep the service from working, one line each.
    """

    text: str
    warnings: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser whose description is `DESCRIPTION`."""
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="user that runs the service; default: one that exists only while it runs",
    )
    add_settings(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the unit to stdout and its warnings to stderr.

    Args:
        arguments: namespace of the parser that `add_arguments` extended.

    Returns:
        Exit status: 0.

    Raises:
        SettingsError: see `make_unit`.
    """
    settings = read_settings(arguments)
    flags = {name: value for name, value in vars(arguments).items() if "." in name}
    unit = make_unit(settings, flags, arguments.config, arguments.user)
    print(unit.text, end="")
    if settings.model.model and is_packaged(settings.model.model):
        _LOGGER.info("No --model: the service uses the packaged %s.", settings.model.model)
    for warning in unit.warnings:
        _LOGGER.warning(warning)
    return 0


def make_unit(
    settings: Settings, flags: Mapping[str, Any], config: Path | None, user: str | None = None
) -> Unit:
    """Make the unit of a listener; it grants only the access that the settings need.

    Args:
        settings: all settings of the listener.
        flags: the settings given as flags, by `section.field`.
        config: the TOML file of the other settings, if any.
        user: user that runs the service; a dynamic user by default.

    Raises:
        SettingsError: if a service cannot use the settings, the unit would show a secret, or the
            user does not exist.
    """
    _check(settings, flags)
    paths = [Path(sys.prefix), Path(sys.base_prefix), *_paths(settings, config)]
    clips = settings.outputs.clips and settings.outputs.clips.absolute()
    text = _UNIT.format(
        command=" ".join(map(_quoted, _command(settings, flags, config))),
        identity="\n".join([*_identity(settings, user), *_credentials(settings)]),
        files="\n".join(_files([*paths, *([clips] if clips else [])], clips, user)),
        devices="\n".join(_devices(settings)),
        network="\n".join(_network(settings)),
        memory_mb=_memory_mb(settings),
    )
    warnings = [
        f"{path} is not visible to the service, which has its own {place}: move it"
        for path in paths
        for place in _PRIVATE
        if path.is_relative_to(place)
    ]
    warnings += [
        f"{path} does not exist" for path in _secret_files(settings).values() if not path.exists()
    ]
    if user is None:
        warnings += [
            f"{path} cannot be read by the service's user: move it, change its mode, or set a "
            "--user that can read it"
            for path in paths
            if not _is_public(path)
        ]
        if clips and not clips.is_relative_to(_STATE):
            warnings.append(
                f"{clips} cannot be written by the service's user: put the clips in "
                f"{_STATE}/clips, or set a --user that can write there"
            )
    return Unit(text, warnings)


def _check(settings: Settings, flags: Mapping[str, Any]) -> None:
    source, outputs = settings.source, settings.outputs
    if not (source.mic or source.device or source.url):
        raise SettingsError("a service needs a live source: --mic, --device or --url")
    if outputs.live:
        raise SettingsError("a service has no terminal for --live")
    advice = "every user could read it in the unit. Put it in a file"
    if "outputs.token" in flags:
        raise SettingsError(f"--token: {advice}, with --token-file")
    if source.url and "source.url" in flags and urlsplit(source.url).password is not None:
        raise SettingsError(f"the password in --url: {advice}, as url in a --config file")
    if outputs.mqtt:
        broker = Broker.from_url(outputs.mqtt, outputs.mqtt_ca, environment={})
        if broker.password is not None and "outputs.mqtt" in flags:
            raise SettingsError(f"the broker's password: {advice}, with --mqtt-password-file")
        if broker.username and broker.password is None and not outputs.mqtt_password_file:
            raise SettingsError("give the broker's password with --mqtt-password-file")


def _command(settings: Settings, flags: Mapping[str, Any], config: Path | None) -> Iterator[str]:
    """Yield the command line with absolute paths."""
    script = Path(sys.executable).with_name("semanticac-edge")
    yield from [str(script)] if script.exists() else [sys.executable, "-m", "edge"]
    if config is not None:
        yield from ("--config", str(config.absolute()))
    values = dict(flags)
    if str(settings.model.model) == os.environ.get("SEMANTICAC_MODEL"):
        # The service does not inherit our environment.
        values["model.model"] = settings.model.model
    values |= {name: f"%d/{_CREDENTIALS[name]}" for name in _secret_files(settings)}
    for name, value in values.items():
        option = flag(name.partition(".")[2])
        if isinstance(value, bool):
            yield option if value else option.replace("--", "--no-", 1)
        else:
            yield from (option, str(value.absolute() if isinstance(value, Path) else value))


def _secret_files(settings: Settings) -> dict[str, Path]:
    files = {name: getattr(settings.outputs, name.partition(".")[2]) for name in _CREDENTIALS}
    return {name: path.absolute() for name, path in files.items() if path}


def _paths(settings: Settings, config: Path | None) -> Iterator[Path]:
    """Yield the files that the service itself reads."""
    for path in (
        config,
        settings.model.model,
        settings.decisions.thresholds,
        settings.outputs.mqtt_ca,
    ):
        if path is not None:
            yield path.absolute()


def _identity(settings: Settings, user: str | None) -> Iterator[str]:
    if user is None:
        yield "DynamicUser=yes"
    else:
        yield f"User={user}"
    if not settings.source.url:
        yield "SupplementaryGroups=audio"
    if user is not None and not settings.source.url:
        import pwd  # Exists only on Unix.

        try:
            uid = pwd.getpwnam(user).pw_uid
        except KeyError:
            raise SettingsError(f"there is no user {user!r}") from None
        # The sound server of the user's session has its socket here.
        yield f"Environment=XDG_RUNTIME_DIR=/run/user/{uid}"


def _credentials(settings: Settings) -> Iterator[str]:
    for name, path in _secret_files(settings).items():
        yield f"LoadCredential={_CREDENTIALS[name]}:{path}"


def _files(paths: list[Path], clips: Path | None, user: str | None) -> Iterator[str]:
    in_homes = any(path.is_relative_to(home) for path in paths for home in _HOMES)
    yield f"ProtectHome={'read-only' if in_homes or user else 'yes'}"
    if clips and not clips.is_relative_to(_STATE):
        yield f"ReadWritePaths={_quoted(str(clips))}"


def _devices(settings: Settings) -> Iterator[str]:
    if settings.source.url:
        yield "PrivateDevices=yes"
    else:
        yield "DevicePolicy=closed"
        yield "DeviceAllow=char-alsa rw"


def _network(settings: Settings) -> Iterator[str]:
    outputs = settings.outputs
    serves_others = outputs.serve and not is_loopback(parse_address(outputs.serve)[0])
    families = ["AF_UNIX"]
    if settings.source.url or outputs.mqtt or outputs.serve:
        families += ["AF_INET", "AF_INET6"]
    else:
        yield "PrivateNetwork=yes"
    yield f"RestrictAddressFamilies={' '.join(families)}"
    if not (settings.source.url or outputs.mqtt or serves_others):
        yield "IPAddressDeny=any"
        if outputs.serve:
            yield "IPAddressAllow=localhost"


def _memory_mb(settings: Settings) -> int:
    model = settings.model.model
    bundle_mb = model.stat().st_size // _MEGABYTE if model and model.exists() else 100
    decoder_mb = 200 if settings.source.url else 0
    return 300 + 4 * bundle_mb + decoder_mb


def _is_public(path: Path) -> bool:
    """Return whether every user can read the file and enter its directories."""
    try:
        modes = [place.stat().st_mode for place in (path, *path.parents)]
    except OSError:
        return False
    is_open = all(mode & stat.S_IXOTH for mode in modes[1:])
    return is_open and bool(modes[0] & stat.S_IROTH)


def _quoted(argument: str) -> str:
    """Quote an argument for systemd; a leading `%d/` is our own specifier."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    if not argument.startswith("%d/"):
        escaped = escaped.replace("%", "%%")
    return f'"{escaped}"' if set(escaped) & set(" \t'\";") or not escaped else escaped
