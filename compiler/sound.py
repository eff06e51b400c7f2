"""Sound as the frames that Whisper's encoder reads: logarithms of the power in bands of pitch."""

import wave
from pathlib import Path

import numpy as np

from compiler.checkpoints.arrays import ArrayError, read_npy
from compiler.checkpoints.description import Patches, Transformer

__all__ = ["RATE", "log_mel", "read_sound"]

RATE = 16_000
_WINDOW, _HOP = 400, 160  # samples
_MOST_SAMPLES = 1 << 26


def read_sound(model: Transformer, path: Path) -> np.ndarray:
    """The patches of the sound in ``path``: a WAV file of 16-bit samples at 16 kHz, whose channels
    are averaged; samples as .npy, one row; or frames as .npy, bands × frames. Cut or filled with
    silence to the length that the model was trained on. ``ArrayError``."""
    embedding = (model.encoder or model).embedding
    if not isinstance(embedding, Patches) or embedding.convolution is None:
        raise ArrayError(f"{model.name} reads no sound")
    bands, count = embedding.projection.weight.shape[1] // 3, 2 * len(embedding.positions)
    values = np.asarray(read_npy(path)) if path.suffix == ".npy" else _samples(path)
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ArrayError(f"{path} must hold finite numbers")
    if values.ndim == 1 and values.size:
        values = log_mel(_fitted(values.astype(np.float64), count * _HOP), bands)
    if values.ndim != 2 or len(values) != bands or values.shape[1] % 2 or not (
            0 < values.shape[1] <= count):
        raise ArrayError(f"{path} must hold samples in one row, or {bands} bands of an even number "
                         f"of at most {count} frames, not {' × '.join(map(str, values.shape))}")
    return embedding.of_frames(values.T)


def _samples(path: Path) -> np.ndarray:
    try:
        with wave.open(str(path)) as file:
            kind = file.getframerate(), 8 * file.getsampwidth()
            channels, count = file.getnchannels(), file.getnframes()
            if kind != (RATE, 16) or not 0 < count * channels <= _MOST_SAMPLES:
                raise ArrayError(f"{path} must have samples of 16 bits at {RATE} Hz, not "
                                 f"{count} of {kind[1]} bits at {kind[0]} Hz")
            content = file.readframes(count)
    except (OSError, EOFError, wave.Error) as error:
        raise ArrayError(f"{path} must be a readable WAV file: {error}") from error
    whole = len(content) // (2 * channels) * channels
    return np.frombuffer(content, "<i2", whole).reshape(-1, channels).mean(axis=1) / 32768


def _fitted(samples: np.ndarray, count: int) -> np.ndarray:
    return np.pad(samples[:count], (0, max(count - len(samples), 0)))


def log_mel(samples: np.ndarray, bands: int) -> np.ndarray:
    """Bands × frames of ``samples`` at 16 kHz, a frame for each 160 of them, scaled as Whisper has
    it: 80 dB below the loudest and less count alike."""
    padded = np.pad(samples, _WINDOW // 2, mode="reflect")
    places = np.arange(0, len(samples) - _HOP + 1, _HOP)[:, None] + np.arange(_WINDOW)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    power = np.abs(np.fft.rfft(padded[places] * window, axis=1)) ** 2
    found = np.log10(np.maximum(_filters(bands) @ power.T, 1e-10))
    return (np.maximum(found, found.max() - 8) + 4) / 4


def _filters(bands: int) -> np.ndarray:
    """Bands × frequencies: triangles of equal area at equal distances of pitch, which is linear
    below 1 kHz and logarithmic above."""
    step = np.log(6.4) / 27
    highest = 15 + np.log(RATE / 2 / 1000) / step
    pitch = np.linspace(0, highest, bands + 2)
    corners = np.where(pitch < 15, pitch * 200 / 3, 1000 * np.exp(step * (pitch - 15)))
    frequencies = np.linspace(0, RATE / 2, _WINDOW // 2 + 1)
    rising = (frequencies - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - frequencies) / np.diff(corners)[1:, None]
    height = 2 / (corners[2:] - corners[:-2])
    return np.maximum(0, np.minimum(rising, falling)) * height[:, None]
