"""Address and credentials of an MQTT broker."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

PASSWORD_VARIABLE = "SEMANTICAC_MQTT_PASSWORD"

_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class Broker:
    """An MQTT broker. `str` and `repr` never show the password.

    Args:
        host: host name or IP address.
        port: 1 to 65535.
        tls: encrypt, and verify the broker's certificate and host name.
        username: None for an anonymous connection.
        password: requires `username`.
        ca_file: PEM file of the trusted authorities; None for the system's.

    Raises:
        ValueError: if the host or the port is invalid, or if there is a password without a user
            or a CA file without TLS.
    """

    host: str
    port: int = 1883
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    def __post_init__(self) -> None:
        try:
            valid = bool(self.host) and bool(self.host.encode("idna"))
        except UnicodeError:
            valid = False
        if not valid:
            raise ValueError(f"the broker's host must be a name or address. Received: {self.host}.")
        if not 0 < self.port < 65536:
            raise ValueError(f"the broker's port must be in 1 .. 65535. Received: {self.port}.")
        if self.password is not None and self.username is None:
            raise ValueError("a broker's password needs a user: mqtt://USER@HOST.")
        if self.ca_file is not None and not self.tls:
            raise ValueError("a CA file needs TLS: mqtts://HOST instead of mqtt://HOST.")

    @classmethod
    def from_url(
        cls,
        url: str,
        ca_file: str | os.PathLike[str] | None = None,
        password_file: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Self:
        """Read `mqtt[s]://[USER[:PASSWORD]@]HOST[:PORT]`.

        A password on the command line is visible in the process list. Pass it in a file, or in the
        variable SEMANTICAC_MQTT_PASSWORD, which is read if neither URL nor file has a password.

        Args:
            url: with special characters of user and password percent-encoded; the default port is
                1883, or 8883 for `mqtts` (TLS).
            ca_file: see `Broker`.
            password_file: file with the password on its first line.
            environment: environment variables.

        Raises:
            OSError: if the password file cannot be read.
            ValueError: if the URL or an option is invalid.
        """
        wrong = "a broker's URL must be mqtt[s]://[USER[:PASSWORD]@]HOST[:PORT]"
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:  # Its message could contain part of the password.
            raise ValueError(f"{wrong}, with the port a number up to 65535.") from None
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ValueError(f"{wrong}. Received: the scheme {parts.scheme or 'none'!r}.")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(
                f"{wrong}, without a path. Percent-encode /, ? and # in user and password."
            )
        username = unquote(parts.username) if parts.username else None
        password = None if parts.password is None else unquote(parts.password)
        if password_file is not None:
            if password is not None:
                raise ValueError("give the broker's password in the URL or in a file, not in both.")
            password = Path(password_file).read_text(encoding="utf-8").partition("\n")[0].rstrip()
        elif password is None and username is not None:
            password = environment.get(PASSWORD_VARIABLE)
        return cls(
            host=parts.hostname,
            port=_DEFAULT_PORTS[parts.scheme] if port is None else port,
            tls=parts.scheme == "mqtts",
            username=username,
            password=password,
            ca_file=None if ca_file is None else str(ca_file),
        )

    def __str__(self) -> str:
        user = "" if self.username is None else f"{self.username}@"
        return f"mqtt{'s' if self.tls else ''}://{user}{self.host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext | None:
        """TLS context that verifies the broker's certificate; None without TLS.

        Raises:
            ValueError: if the CA file is not readable PEM.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # Includes SSLError.
            raise ValueError(
                f"the CA file must be PEM certificates. Received: {self.ca_file} "
                f"({error.strerror or error})."
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca_file is not None:
            # From Python 3.13 on, strict mode rejects home-made certificates without key usage.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context
