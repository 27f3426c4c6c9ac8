"""Sound and pictures for tests, and the ``ffmpeg`` executable as a decoder that is not ours."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import wave

import numpy as np
import pytest

FFMPEG = os.environ.get("RUSHLIGHT_FFMPEG") or shutil.which("ffmpeg")


def require_ffmpeg():
    """Skips a test loudly, or fails it where the executable is required."""
    if FFMPEG:
        return
    reason = "NEEDS AN FFMPEG EXECUTABLE: install ffmpeg or set RUSHLIGHT_FFMPEG"
    if os.environ.get("RUSHLIGHT_REQUIRE_FFMPEG") == "1":
        pytest.fail(f"{reason}; RUSHLIGHT_REQUIRE_FFMPEG is set", pytrace=False)
    pytest.skip(reason)


def tone(rate: int, channels: int, seconds: float = 0.5) -> np.ndarray:
    """A tone in each channel and a sweep through all, `[channels, samples]`."""
    time = np.arange(int(rate * seconds)) / rate
    waves = [np.sin(2 * np.pi * (440 + 220 * channel) * time) for channel in range(channels)]
    return np.stack(waves) * 0.4 + 0.2 * np.sin(2 * np.pi * (100 + 1500 * time) * time)


def wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAVE file of 16 bits."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.T * 32767).round().astype("<i2").tobytes())
    return out.getvalue()


def ffmpeg(*arguments: str, stdin: bytes = b"") -> bytes:
    command = [FFMPEG, "-hide_banner", "-loglevel", "error", "-y", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=True, timeout=120).stdout


def decoded(file: bytes, channels: int) -> np.ndarray:
    """The samples of a sound file, `[channels, samples]`."""
    raw = ffmpeg("-i", "pipe:0", "-f", "f32le", "-ac", str(channels), "pipe:1", stdin=file)
    return np.frombuffer(raw, "<f4").reshape(-1, channels).T


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Root of the mean square of the differences over that of the second."""
    assert a.shape == b.shape
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)))
