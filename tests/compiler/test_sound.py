"""Sound for Whisper: frames as transformers makes them, files that are refused."""

import wave

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.arrays import ArrayError
from compiler.sound import RATE, log_mel, read_sound
from support.families import stored

# Of WhisperFeatureExtractor of transformers 5.24: every 16th band of frames 0, 50, 99, 100, 2999.
FRAMES = (0, 50, 99, 100, 2999)
THEIRS = [[0.8960, -0.6727, 0.1832, 0.6953, -0.6727], [0.8185, -0.6727, 0.1885, 0.7409, -0.6727],
          [0.9649, 1.0141, 1.0136, 0.9046, -0.6727], [0.3397, -0.6727, -0.6727, -0.3031, -0.6727],
          [0.0823, -0.6727, -0.6727, -0.6727, -0.6727]]


def tones():
    """A second of two tones."""
    t = np.arange(RATE) / RATE
    return 0.3 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 1234.5 * t)


@pytest.fixture
def whisper(tmp_path):
    return load(stored("whisper").write(tmp_path / "whisper"))


def write(path, samples, rate=RATE, width=2, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setframerate(rate)
        file.setsampwidth(width)
        file.setnchannels(channels)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def test_frames_are_those_of_transformers():
    found = log_mel(np.pad(tones(), (0, 29 * RATE)), 80)
    assert found.shape == (80, 3000)
    assert np.abs(found[::16][:, FRAMES] - THEIRS).max() < 2e-4


def test_samples_frames_and_files_are_one_sound(whisper, tmp_path):
    sound = tones()[:1500]  # of which the model takes 10 frames of 160
    np.save(tmp_path / "samples.npy", sound)
    found = read_sound(whisper, tmp_path / "samples.npy")
    assert found.shape == (10, 18)
    np.save(tmp_path / "frames.npy", log_mel(np.pad(sound, (0, 100)), 6))
    assert np.allclose(read_sound(whisper, tmp_path / "frames.npy"), found)
    path = write(tmp_path / "a.wav", sound)
    assert np.abs(read_sound(whisper, path) - found).max() < 0.05
    both = write(tmp_path / "b.wav", np.repeat(sound, 2), channels=2)
    assert np.allclose(read_sound(whisper, both), read_sound(whisper, path))


@pytest.mark.parametrize("values, message", [
    (np.zeros((6, 9)), "6 bands of an even number of at most 10 frames, not 6 × 9"),
    (np.zeros((6, 12)), "not 6 × 12"), (np.zeros((5, 10)), "not 5 × 10"),
    (np.zeros(0), "not 0"), (np.full(9, np.nan), "must hold finite numbers"),
    (np.array(["a"]), "must hold")])
def test_other_arrays_are_one_line(whisper, tmp_path, values, message):
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(ArrayError, match=message) as error:
        read_sound(whisper, tmp_path / "x.npy")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change, message", [
    ({"rate": 8000}, "must have samples of 16 bits at 16000 Hz, not 1500 of 16 bits at 8000"),
    ({"width": 1}, "not 3000 of 8 bits"), ({"samples": np.zeros(0)}, "not 0 of 16 bits")])
def test_other_files_are_one_line(whisper, tmp_path, change, message):
    path = write(tmp_path / "x.wav", **({"samples": tones()[:1500]} | change))
    with pytest.raises(ArrayError, match=message):
        read_sound(whisper, path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ArrayError, match="must be a readable WAV file"):
        read_sound(whisper, path)


def test_a_model_that_hears_nothing(tmp_path):
    model = load(stored("bert").write(tmp_path / "bert"))
    with pytest.raises(ArrayError, match="bert reads no sound"):
        read_sound(model, tmp_path / "x.npy")
