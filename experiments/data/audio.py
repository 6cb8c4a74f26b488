"""Sound as log-mel spectrograms, and back with the phases that Griffin and Lim find.

WAV files, short-time spectra and mel bands are here too. Sounds are floating point in
[-1, 1] at `RATE`; spectra are scaled so that a sine of amplitude a has magnitude a / 2.
"""

import io
import math
import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from scipy import signal
from scipy.io import wavfile

from experiments.harness import keys
from experiments.harness.errors import one_line

Order = Literal["big", "little"]

RATE = 8000  # samples per second
WINDOW, HOP = 512, 128  # samples: 64 ms, every 16 ms
# Of a mel magnitude: 94 dB below the peak of a sine of full scale, and above the
# rounding noise of 16 bits.
FLOOR = 1e-5
# A clip that never exceeds this share of its file's peak is silence: -40 dB.
SILENCE = 0.01
_PAUSE = RATE // 5
# Samples per second of a file; resampling from others takes memory without bound.
SLOWEST, FASTEST = 1000, 768_000
# What SciPy raises where a header is damaged.
_WAV_ERRORS = (
    ValueError,
    OSError,
    EOFError,
    TypeError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
)


def hertz_to_mel(hertz: np.ndarray | float) -> np.ndarray:
    """Return m = 2595 log10(1 + f / 700).

    Source: O'Shaughnessy 1987, as in the HTK book, equation 5.13.
    """
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def mel_to_hertz(mel: np.ndarray | float) -> np.ndarray:
    """Return the inverse of `hertz_to_mel`."""
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)


def centers(num_bands: int) -> np.ndarray:
    """Return the peak frequencies of the bands in hertz, `[num_bands]`.

    They are equally spaced in mel.
    """
    return mel_to_hertz(np.linspace(0, hertz_to_mel(RATE / 2), num_bands + 2)[1:-1])


@cache
def mel_filterbank(num_bands: int) -> np.ndarray:
    """Return triangles in mel, `[num_bands, frequencies]`.

    Each has height one and is zero at its neighbors' peaks. They cover 0 Hz to half of
    `RATE`. Between the first peak and the last, the weights of a frequency sum to one.

    Raises:
      ValueError: there are so many bands that one of them holds no frequency of the
        spectrum.

    Source: Young et al., The HTK Book, section 5.4.
    """
    mel = hertz_to_mel(_transform().f)
    edges = np.linspace(0, hertz_to_mel(RATE / 2), num_bands + 2)
    filters = np.maximum(0, 1 - np.abs(mel - edges[1:-1, None]) / (edges[1] - edges[0]))
    if not np.all(np.any(filters > 0, axis=1)):
        raise ValueError(
            f"{num_bands} mel bands are more than the spectrum's {len(mel)} "
            "frequencies fill; give fewer."
        )
    return filters


def frame_times(num_frames: int) -> np.ndarray:
    """Return the middles of a spectrogram's frames in seconds, `[num_frames]`.

    The first lies before the clip.
    """
    return (_transform().p_min + np.arange(num_frames)) * HOP / RATE


def log_mel(sounds: np.ndarray, num_bands: int) -> np.ndarray:
    """Return log max(mel magnitude, FLOOR) of `[..., samples]`.

    The result has shape `[..., frames, num_bands]`.
    """
    magnitudes = np.abs(_transform().stft(sounds))
    return np.log(np.maximum(mel_filterbank(num_bands) @ magnitudes, FLOOR)).swapaxes(
        -1, -2
    )


def magnitudes_from_log_mel(patches: np.ndarray, iterations: int = 100) -> np.ndarray:
    """Return non-negative magnitudes m whose mel bands B m are nearest in squares.

    The result has shape `[..., frequencies, frames]`. The update m <- m * (B^T y) /
    (B^T B m) starts smooth and stays so, where an active-set method leaves a few spikes
    per band.

    Source: Lee & Seung 2001, theorem 1.
    """
    mel = np.exp(patches).swapaxes(-1, -2)
    filters = mel_filterbank(mel.shape[-2])
    target = filters.T @ mel
    magnitudes = (
        target
        / np.maximum(filters.sum(axis=0), FLOOR)[:, None]
        / filters.sum(axis=1).mean()
    )
    for _ in range(iterations):
        magnitudes = (
            magnitudes * target / np.maximum(filters.T @ (filters @ magnitudes), 1e-12)
        )
    return magnitudes


def griffin_lim(
    magnitudes: np.ndarray, num_samples: int, iterations: int = 60
) -> np.ndarray:
    """Return sounds `[..., num_samples]` of given magnitudes.

    Magnitudes are `[..., frequencies, frames]` and are met approximately. The sound
    nearest to a spectrum and that sound's phases with the given magnitudes are taken in
    turn, from random phases.

    Source: Griffin & Lim 1984, equation 6.
    """
    transform = _transform()
    phases = np.random.default_rng(keys.PHASES).uniform(-np.pi, np.pi, magnitudes.shape)
    spectrum = magnitudes * np.exp(1j * phases)
    for _ in range(iterations):
        rebuilt = transform.stft(transform.istft(spectrum, k1=num_samples))
        spectrum = magnitudes * rebuilt / np.maximum(np.abs(rebuilt), 1e-12)
    return transform.istft(spectrum, k1=num_samples)


def resynthesize(patches: np.ndarray, num_samples: int) -> np.ndarray:
    """Return the sound of each spectrogram.

    Spectrograms are `[..., frames, bands]`, sounds `[..., num_samples]`.
    """
    return griffin_lim(magnitudes_from_log_mel(patches), num_samples)


def wav(sounds: np.ndarray) -> bytes:
    """Return a 16-bit WAV file of sounds `[num, samples]`, one after another.

    There are pauses between them, and all have the same peak.
    """
    peaks = np.max(np.abs(sounds), axis=1, keepdims=True)
    scaled = np.pad(0.9 * sounds / np.maximum(peaks, FLOOR), ((0, 0), (0, _PAUSE)))
    buffer = io.BytesIO()
    wavfile.write(buffer, RATE, np.round(32767 * scaled.ravel()).astype(np.int16))
    return buffer.getvalue()


def read_wav(path: Path) -> np.ndarray:
    """Read a WAV file as mono float32 `[samples]` at `RATE`, with a peak of one.

    Raises:
      ValueError: SciPy cannot read the file, or it is empty, not finite, or silent.
    """
    where = one_line(path)
    try:
        _check_chunks(path)
        with warnings.catch_warnings():
            # Of chunks beside the sound.
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except _WAV_ERRORS as error:
        reason = one_line(str(error) or type(error).__name__).rstrip(".")
        raise ValueError(
            f"{where} cannot be read ({reason}); convert it to 16-bit PCM, or remove "
            "it."
        ) from error
    if not SLOWEST <= rate <= FASTEST:
        raise ValueError(
            f"{where} has {rate:,} samples per second; convert it to {RATE:,}."
        )
    if not samples.size:
        raise ValueError(f"{where} holds no sample; remove it.")
    if samples.dtype == np.uint8:  # whose zero is 128
        samples = samples.astype(np.float64) - 128
    samples = samples.astype(np.float64).reshape(len(samples), -1).mean(axis=1)
    if not np.all(np.isfinite(samples)):
        raise ValueError(
            f"{where} holds a sample that is not finite; repair the file, or remove it."
        )
    peak = np.max(np.abs(samples), initial=0)
    if peak == 0:
        raise ValueError(f"{where} is silent; remove it.")
    divisor = math.gcd(rate, RATE)
    sound = signal.resample_poly(samples / peak, RATE // divisor, rate // divisor)
    return (sound / max(np.max(np.abs(sound)), 1e-12)).astype(np.float32)


def _check_chunks(path: Path) -> None:
    """Compare the sizes that a WAV file gives with its own, before SciPy takes memory.

    Raises:
      ValueError: it is no WAV file, a part is missing, or one ends beyond the file.
    """
    if not os.path.isfile(path):
        raise ValueError("there is no such file")
    block, has_data = 0, False
    with open(path, "rb") as file:
        for name, length, rest, order in _chunks(file, path.stat().st_size):
            if length > rest:
                raise ValueError(
                    f"its part {name!r} is said to hold {length:,} bytes, and "
                    f"{max(rest, 0):,} follow"
                )
            if name == "fmt":
                block = int.from_bytes(file.read(14)[12:], order)
            elif not block or length % block:
                raise ValueError(
                    f"its part 'data' holds {length:,} bytes, and a sample {block}"
                )
            has_data = has_data or name == "data"
    if not has_data:
        raise ValueError("it has no part 'data'")


def _chunks(file: BinaryIO, size: int) -> Iterator[tuple[str, int, int, Order]]:
    """Yield the parts of a WAV file that SciPy reads, where their content begins.

    Each is its name, its length, the bytes that follow, and the order of bytes.
    """
    kind, length, form = file.read(4), file.read(4), file.read(4)
    if kind not in (b"RIFF", b"RIFX", b"RF64") or form != b"WAVE":
        raise ValueError("it is no WAV file")
    order: Order = "big" if kind == b"RIFX" else "little"
    end, long = int.from_bytes(length, order) + 8, 0
    while file.tell() < end and len(start := file.read(8)) == 8:
        name, length = start[:4], int.from_bytes(start[4:], order)
        begin = file.tell()
        if name == b"ds64":
            sizes = file.read(16)
            end, long = (int.from_bytes(sizes[i : i + 8], order) for i in (0, 8))
            end += 8
        if name == b"data" and kind == b"RF64":
            length = long
        if name in (b"fmt ", b"data"):
            yield name.decode().strip(), length, min(size, end) - begin, order
        file.seek(begin + length + length % 2)


def cut(sound: np.ndarray, num_samples: int) -> np.ndarray:
    """Cut a sound into whole clips, faded, `[clips, num_samples]`.

    Silent ones are left out.
    """
    clips = sound[: len(sound) // num_samples * num_samples].reshape(-1, num_samples)
    return fade(clips[np.max(np.abs(clips), axis=1) > SILENCE])


def fade(sounds: np.ndarray) -> np.ndarray:
    """Fade sounds `[..., samples]` in and out within 16 ms, so that no end clicks."""
    rise = np.sin(np.pi / 2 * np.arange(1, HOP + 1) / (HOP + 1)) ** 2
    window = np.concatenate([rise, np.ones(sounds.shape[-1] - 2 * HOP), rise[::-1]])
    return sounds * window.astype(sounds.dtype)


def load_folder(folder: Path, num_samples: int) -> list[tuple[str, np.ndarray]]:
    """Load every `.wav` in a folder and below it, by name.

    Returns:
      Pairs of a name and its clips, `[clips, num_samples]`.

    Raises:
      ValueError: there is none; or one of them cannot be read, is silent, or is shorter
        than a clip.
    """
    files: Sequence[Path] = sorted(
        file for file in folder.rglob("*") if file.suffix.lower() == ".wav"
    )
    if not files:
        raise ValueError(
            f"{one_line(folder)} holds no .wav file; give a folder of them."
        )
    clips = []
    for file in files:
        sound = read_wav(file)
        if len(sound) < num_samples:
            raise ValueError(
                f"{one_line(file)} lasts {len(sound) / RATE:.3f} s and a clip "
                f"{num_samples / RATE:.3f} s; "
                "give a smaller --seconds, or remove it."
            )
        clips.append(
            (
                file.relative_to(folder).with_suffix("").as_posix(),
                cut(sound, num_samples),
            )
        )
    return clips


@cache
def _transform() -> signal.ShortTimeFFT:
    return signal.ShortTimeFFT(
        signal.windows.hann(WINDOW, sym=False), HOP, RATE, scale_to="magnitude"
    )
