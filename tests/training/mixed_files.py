"""Recordings in the formats, depths, channels, rates and lengths that people have."""

from pathlib import Path

import numpy as np
import soundfile

# Suffix, subtype, rate in hertz, channels, seconds.
KINDS = [
    ("wav", "PCM_U8", 8_000, 1, 120.0),
    ("wav", "PCM_24", 96_000, 2, 0.045),
    ("wav", "FLOAT", 44_100, 2, 0.3),
    ("mp3", "MPEG_LAYER_III", 44_100, 1, 2.0),
    ("mp3", "MPEG_LAYER_III", 22_050, 2, 0.2),
    ("ogg", "VORBIS", 48_000, 2, 1.0),
    ("ogg", "OPUS", 16_000, 1, 0.5),
    ("flac", "PCM_16", 32_000, 1, 0.045),
    ("aiff", "PCM_16", 11_025, 2, 0.7),
]
TONES_HZ = {"low": 300, "high": 900}


def write_tones(directory: Path) -> None:
    """Write a class directory per tone, with a file of each kind."""
    for label, tone_hz in TONES_HZ.items():
        (directory / label).mkdir(parents=True)
        for suffix, subtype, rate_hz, channels, seconds in KINDS:
            times = np.arange(round(seconds * rate_hz)) / rate_hz
            tone = 0.4 * np.sin(2 * np.pi * tone_hz * times)
            # The average of both channels is the tone.
            samples = np.stack([1.5 * tone, 0.5 * tone], 1) if channels == 2 else tone
            path = directory / label / f"{subtype} {rate_hz} {seconds}.{suffix}"
            soundfile.write(path, samples, rate_hz, subtype)
