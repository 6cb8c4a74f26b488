"""Synthesized clips of sound: plucked strings, tones, chirps and bursts of noise.

Source: Karplus & Strong 1983 (plucked strings).
"""

from typing import NamedTuple

import numpy as np
from scipy import signal

from experiments.data import audio
from experiments.harness import keys

# Noise relative to the peak, -60 dB, so that no two frames of silence are alike.
BACKGROUND = 1e-3


class Clips(NamedTuple):
    """Sounds of one length.

    Attributes:
      sounds: float32 `[clips, samples]` in [-1, 1].
      kinds: integers `[clips]`: the figures show the first clip of each.
      names: the name of each clip.
    """

    sounds: np.ndarray
    kinds: np.ndarray
    names: list[str]

    def where(self, chosen: np.ndarray) -> "Clips":
        """Return the clips where `chosen`, booleans `[clips]`, is true."""
        pairs = zip(self.names, chosen, strict=True)
        names = [name for name, is_chosen in pairs if is_chosen]
        return Clips(self.sounds[chosen], self.kinds[chosen], names)


def _tone(random: np.random.Generator, time: np.ndarray, pitch: float) -> np.ndarray:
    """A tone: harmonics that fall off as a power of their number.

    All of them or the odd ones, with a vibrato of up to 2% and an attack.
    """
    phase = pitch * time + random.uniform(0, 0.02) * pitch * np.sin(
        12 * np.pi * time
    ) / (12 * np.pi)
    slope, odd_only = random.uniform(0.7, 2.5), random.integers(2)
    numbers = np.arange(1, int(audio.RATE / 2 / pitch), 1 + odd_only)[:, None]
    harmonics = numbers**-slope * np.sin(
        2 * np.pi * numbers * phase + random.uniform(0, 2 * np.pi, numbers.shape)
    )
    attack, release = np.exp(random.uniform(np.log([0.01, 0.1]), np.log([0.1, 1.0])))
    return (
        harmonics.sum(axis=0) * (1 - np.exp(-time / attack)) * np.exp(-time / release)
    )


def _pluck(random: np.random.Generator, time: np.ndarray, pitch: float) -> np.ndarray:
    """A burst of noise that circulates in a string and is averaged at each turn.

    The weights of the average tune it.

    Source: Karplus & Strong 1983; unequal weights: Jaffe & Smith 1983.
    """
    whole, fraction = divmod(audio.RATE / pitch, 1)
    whole = int(whole)
    # The lowest harmonics fall by 60 dB in that many seconds; the others faster, by the
    # average.
    seconds = np.exp(random.uniform(np.log(0.3), np.log(3.0)))
    feedback = 10 ** (-3 / (pitch * seconds)) * np.array([1 - fraction, fraction])
    burst = np.zeros(len(time))
    burst[:whole] = random.uniform(-1, 1, whole)
    burst[:whole] -= np.mean(burst[:whole])
    brightness = random.uniform(0, 0.8)
    burst = signal.lfilter([1 - brightness], [1, -brightness], burst)
    return signal.lfilter(
        [1.0], np.concatenate([[1], np.zeros(whole - 1), -feedback]), burst
    )


def _chirp(random: np.random.Generator, time: np.ndarray, pitch: float) -> np.ndarray:
    """A sine whose frequency moves from the pitch by a constant factor each second."""
    end = np.exp(random.uniform(np.log(150), np.log(3500)))
    sweep = signal.chirp(time, pitch, time[-1], end, method="logarithmic")
    return sweep * (1 - np.exp(-time / 0.01)) * np.exp(-time / random.uniform(0.2, 2.0))


def _noise(random: np.random.Generator, time: np.ndarray, pitch: float) -> np.ndarray:
    """White noise through a resonance at the pitch, dying away."""
    resonance = signal.iirpeak(pitch, random.uniform(1, 6), fs=audio.RATE)
    noise = signal.lfilter(*resonance, random.normal(size=len(time)))
    return noise * np.exp(-time / np.exp(random.uniform(np.log(0.03), np.log(0.5))))


KINDS = {"tone": _tone, "pluck": _pluck, "chirp": _chirp, "noise": _noise}


def synthesize(num_clips: int, num_samples: int) -> tuple[Clips, np.ndarray]:
    """Synthesize clips, kind after kind; the same ones at every call.

    Clip i depends on its index and `num_samples` alone. Values are rounded to 16 bits,
    like those of a file.

    Returns:
      The clips, and their pitches in hertz, `[clips]`, log-uniform in 110 to 880.
    """
    kinds, sounds, pitches = list(KINDS.items()), [], []
    for index in range(num_clips):
        random = np.random.default_rng([keys.CLIPS, index])
        pitch, onset = (
            np.exp(random.uniform(np.log(110), np.log(880))),
            random.integers(0, num_samples // 6),
        )
        time = np.arange(num_samples - onset) / audio.RATE
        sound = kinds[index % len(kinds)][1](random, time, pitch)
        sound = np.pad(sound / np.max(np.abs(sound)), (onset, 0))
        sound = audio.fade(sound) + BACKGROUND * random.normal(size=num_samples)
        sounds.append(np.round(sound / np.max(np.abs(sound)) * 32767) / 32767)
        pitches.append(pitch)
    numbers = np.arange(num_clips) % len(kinds)
    names = [
        f"{kinds[number][0]}, {pitch:.0f} Hz"
        for number, pitch in zip(numbers, pitches, strict=True)
    ]
    return Clips(np.asarray(sounds, np.float32), numbers, names), np.asarray(pitches)
