"""The sound experiment: features and the way back, files of one's own, their mistakes,
and a run.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from support.programs import status_of

from experiments import sound
from experiments.data import audio, synthetic_clips
from experiments.harness import figures

NUM_SAMPLES = 5120
TINY = [
    "--num-bands",
    "12",
    "--seconds",
    "0.128",
    "--hidden-size",
    "8",
    "--latent-size",
    "2",
    "--epochs",
    "1",
]
TINY += ["--batch-size", "10", "--num-samples", "2"]


def sine(hertz: float, seconds: float = 0.5, rate: int = audio.RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("num_bands", [8, 40])
def test_the_filters_cover_the_band_once(num_bands):
    filters = audio.mel_filterbank(num_bands)
    frequencies = np.linspace(0, audio.RATE / 2, filters.shape[1])
    assert filters.shape == (num_bands, audio.WINDOW // 2 + 1)
    assert (
        np.all(filters >= 0)
        and np.all(filters.max(axis=1) > 0.3)
        and filters.max() <= 1
    )
    peaks = audio.centers(num_bands)
    between = (frequencies >= peaks[0]) & (frequencies <= peaks[-1])
    np.testing.assert_allclose(filters.sum(axis=0)[between], 1, rtol=1e-12)
    # Every frequency but the two ends has a weight in some band, and each band is
    # heaviest at its peak.
    assert np.all(filters.sum(axis=0)[1:-1] > 0)
    spacing = frequencies[1]
    assert np.all(np.abs(frequencies[filters.argmax(axis=1)] - peaks) <= spacing)


def test_the_mel_scale_is_that_of_htk():
    # 1000 Hz are 1000 mel, by its definition, to within the rounding of its constants.
    assert audio.hertz_to_mel(1000) == pytest.approx(1000, abs=0.02)
    np.testing.assert_allclose(
        audio.mel_to_hertz(audio.hertz_to_mel(np.array([0, 440, 4000]))), [0, 440, 4000]
    )


def test_more_bands_than_the_spectrum_resolves_are_refused():
    with pytest.raises(
        ValueError,
        match=(
            "200 mel bands are more than the spectrum's 257 frequencies fill; give "
            "fewer"
        ),
    ):
        audio.mel_filterbank(200)


@pytest.mark.parametrize("hertz", [220, 1000, 3000])
def test_a_sine_is_loudest_in_its_band_and_has_half_its_amplitude(hertz):
    patch = audio.log_mel(0.5 * sine(hertz), 40)
    middle = patch[len(patch) // 2]
    assert (
        middle.argmax()
        == np.abs(
            audio.hertz_to_mel(audio.centers(40)) - audio.hertz_to_mel(hertz)
        ).argmin()
    )
    # The window spreads a sine over three frequencies, of which the outer two have half
    # its magnitude.
    assert 0.25 <= np.exp(middle).sum() <= 0.55


def test_a_click_is_loudest_in_the_frame_of_its_time():
    click = np.zeros(NUM_SAMPLES)
    click[2000] = 1
    patch = audio.log_mel(click, 40)
    times = audio.frame_times(len(patch))
    assert np.abs(times - 2000 / audio.RATE).argmin() == patch.sum(axis=1).argmax()


def test_silence_is_at_the_floor():
    np.testing.assert_allclose(
        audio.log_mel(np.zeros(NUM_SAMPLES), 40), np.log(audio.FLOOR), rtol=1e-6
    )


@pytest.fixture(scope="module")
def clips() -> synthetic_clips.Clips:
    return synthetic_clips.synthesize(24, NUM_SAMPLES)[0]


def error(made: np.ndarray, sounds: np.ndarray) -> np.ndarray:
    """Of mel magnitudes, relative, of each sound."""
    ours, theirs = (np.exp(audio.log_mel(sound, 40)) for sound in (made, sounds))
    return np.sqrt(
        np.square(ours - theirs).sum(axis=(1, 2)) / np.square(theirs).sum(axis=(1, 2))
    )


def test_magnitudes_found_have_the_mel_bands_asked_for(clips):
    patches = audio.log_mel(clips.sounds, 40)
    magnitudes = audio.magnitudes_from_log_mel(patches)
    assert np.all(magnitudes >= 0)
    mel, again = np.exp(patches).swapaxes(1, 2), audio.mel_filterbank(40) @ magnitudes
    assert (
        np.max(
            np.linalg.norm(again - mel, axis=(1, 2)) / np.linalg.norm(mel, axis=(1, 2))
        )
        < 0.03
    )


def test_a_clip_made_of_its_own_patch_has_nearly_its_spectrum(clips):
    """Within a fifth, where random phases, bands in another order or frames in another
    are off by a half and more.
    """
    patches = audio.log_mel(clips.sounds, 40)
    made = audio.resynthesize(patches, NUM_SAMPLES)
    assert made.shape == clips.sounds.shape and np.max(error(made, clips.sounds)) < 0.2
    assert np.mean(error(made, clips.sounds)) < 0.1
    random_phases = audio.griffin_lim(
        audio.magnitudes_from_log_mel(patches), NUM_SAMPLES, iterations=0
    )
    assert np.mean(error(random_phases, clips.sounds)) > 0.4
    for broken in (patches[..., ::-1], patches[:, ::-1]):
        assert (
            np.mean(error(audio.resynthesize(broken, NUM_SAMPLES), clips.sounds)) > 0.4
        )


def test_the_corpus_is_the_same_at_each_call_and_a_longer_one_begins_with_it(clips):
    again, pitches = synthetic_clips.synthesize(24, NUM_SAMPLES)
    np.testing.assert_array_equal(again.sounds, clips.sounds)
    assert again.names == clips.names and np.array_equal(again.kinds, np.arange(24) % 4)
    longer, more_pitches = synthetic_clips.synthesize(28, NUM_SAMPLES)
    np.testing.assert_array_equal(longer.sounds[:24], clips.sounds)
    np.testing.assert_array_equal(more_pitches[:24], pitches)
    np.testing.assert_allclose(np.max(np.abs(clips.sounds), axis=1), 1)
    assert len(np.unique(clips.sounds, axis=0)) == 24 and np.all(
        (pitches > 110) & (pitches < 880)
    )


def test_tones_and_plucked_strings_have_the_pitch_that_is_said(clips):
    """The highest peak of the spectrum is a multiple of it, for a tone the first."""
    _, pitches = synthetic_clips.synthesize(24, NUM_SAMPLES)
    spectra = np.abs(
        np.fft.rfft(clips.sounds * np.hanning(NUM_SAMPLES), 8 * NUM_SAMPLES)
    )
    harmonics = spectra.argmax(axis=1) * audio.RATE / (8 * NUM_SAMPLES) / pitches
    np.testing.assert_allclose(harmonics[clips.kinds == 0], 1, atol=0.03)
    plucked = harmonics[clips.kinds == 1]
    assert np.all(np.round(plucked) >= 1)
    np.testing.assert_allclose(plucked, np.round(plucked), atol=0.03)


def write(path: Path, samples: np.ndarray, rate: int = audio.RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, samples)


@pytest.mark.parametrize(
    ("rate", "convert"),
    [
        (8000, lambda x: np.round(12000 * x).astype(np.int16)),
        (44_100, lambda x: np.round(2e9 * x).astype(np.int32)),
        (16_000, lambda x: np.round(100 * x + 128).astype(np.uint8)),
        (11_025, lambda x: (0.2 * x).astype(np.float32)),
        (22_050, lambda x: np.stack([0.3 * x, 0.1 * x], axis=1).astype(np.float32)),
    ],
    ids=["16 bits", "32 bits", "8 bits", "floating point", "stereo"],
)
def test_a_file_of_any_rate_and_format_is_the_same_sound(tmp_path, rate, convert):
    write(tmp_path / "a.WAV", convert(sine(440, rate=rate)), rate)
    ((name, loaded),) = audio.load_folder(tmp_path, 3840)
    assert name == "a" and loaded.shape == (1, 3840) and loaded.dtype == np.float32
    # Away from the ends, where resampling and fading are.
    np.testing.assert_allclose(loaded[0, 400:3600], sine(440)[400:3600], atol=0.03)


def test_channels_are_mixed_and_silent_clips_left_out(tmp_path):
    left, right = sine(300, 1), sine(500, 1)
    stereo = np.concatenate([np.stack([left, right], axis=1), np.zeros((8000, 2))])
    write(tmp_path / "within" / "a.wav", stereo.astype(np.float32))
    ((name, loaded),) = audio.load_folder(tmp_path, 4000)
    assert name == "within/a" and len(loaded) == 2
    mixed = (left + right) / np.max(np.abs(left + right))
    np.testing.assert_allclose(loaded[0, 400:3600], mixed[400:3600], atol=1e-5)


@pytest.mark.parametrize(("num_files", "tests"), [(1, [9]), (3, [2]), (21, [9, 19])])
def test_a_tenth_of_the_files_is_for_the_test(tmp_path, num_files, tests):
    for index in range(num_files):
        write(
            tmp_path / f"{index:02d}.wav",
            sine(200 + 50 * index, 20 * 0.128 + 0.05).astype(np.float32),
        )
    train, test = sound.load(sound.Config(data=str(tmp_path), seconds=0.128))
    if num_files == 1:
        assert (len(train.names), test.names) == (18, ["00 (19)", "00 (20)"])
    else:
        assert (
            np.unique(test.kinds).tolist() == tests
            and not np.intersect1d(train.kinds, test.kinds).size
        )
        assert (
            len(train.names) + len(test.names)
            == 20 * num_files
            == len(train.sounds) + len(test.sounds)
        )


def wavs(**sounds: np.ndarray | bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        for name, content in sounds.items():
            file = path / "sounds" / f"{name}.wav"
            if isinstance(content, bytes):
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(content)
            else:
                write(file, content)

    return make


def truncated(path: Path) -> None:
    write(path / "sounds" / "cut.wav", sine(440).astype(np.float32))
    file = path / "sounds" / "cut.wav"
    file.write_bytes(file.read_bytes()[:30])


GOOD = sine(440, 3).astype(np.float32)
FOLDER = ["--data", "sounds"]
MISTAKES = {
    "no folder": (
        lambda path: None,
        FOLDER,
        ["--data", "sounds", "synthesized", "folder"],
    ),
    "no .wav": (
        lambda path: (path / "sounds").mkdir(),
        FOLDER,
        ["sounds", "no .wav", "give"],
    ),
    "not a WAV": (
        wavs(a=GOOD, b=b"text"),
        FOLDER,
        ["b.wav", "cannot be read", "convert"],
    ),
    "empty file": (wavs(a=GOOD, b=b""), FOLDER, ["b.wav", "cannot be read", "remove"]),
    "truncated": (truncated, FOLDER, ["cut.wav", "cannot be read", "remove"]),
    "too short": (
        wavs(a=GOOD, b=GOOD[:800]),
        FOLDER,
        ["b.wav", "0.100 s", "0.128 s", "--seconds"],
    ),
    "silent": (
        wavs(a=GOOD, b=np.zeros(9000, np.int16)),
        FOLDER,
        ["b.wav", "silent", "remove"],
    ),
    "not finite": (
        wavs(a=np.where(np.arange(24_000) == 7, np.nan, GOOD)),
        FOLDER,
        ["a.wav", "not finite"],
    ),
    "too little": (
        wavs(a=GOOD[:8000]),
        FOLDER,
        ["7 training and 0 test clips", "more"],
    ),
    "too few clips": (
        [],
        ["--num-clips", "12"],
        ["11 training and 1 test clips", "--num-clips"],
    ),
    "clips too short": ([], ["--seconds", "0.01"], ["--seconds", "0.01", "0.064"]),
    "too many bands": ([], ["--num-bands", "300"], ["--num-bands", "300", "fewer"]),
    "too large a batch": (
        [],
        ["--num-clips", "30", "--batch-size", "64"],
        ["--batch-size", "64", "27"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_line(mistake, tmp_path, monkeypatch, capsys):
    prepare, arguments, words = MISTAKES[mistake]
    if prepare:
        prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert status_of([*TINY, *arguments, "--out", "run"], sound) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ") and all(word in message for word in words), (
        message
    )
    assert not (tmp_path / "run").exists()


# The last by name is the file of the test clips, and its name is in the figures.
HOSTILE_NAMES = ("z $x_{$", "_a\nb", "\udce9t\udce9 <b>", "a" * 200)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_of_files_are_drawn_as_they_are(name):
    patches = np.zeros((1, 2, 8, 12))
    label = figures.short_label(name)
    figure = sound.spectrograms(
        patches, row_labels=[label], column_labels=[name, "t = 0.0"]
    )
    figure.savefig(io.BytesIO(), dpi=50)
    drawn = figure.axes[0]
    assert drawn.get_title() == label and drawn.get_ylabel().startswith(label)
    assert not drawn.title.get_parse_math() and not drawn.yaxis.label.get_parse_math()
    assert label.isprintable() and len(label) <= figures.LONGEST_LABEL + 3


def test_a_mistake_with_a_file_of_any_name_is_one_line(tmp_path, capsys):
    for name in HOSTILE_NAMES:
        write(tmp_path / name / f"{name}.wav", GOOD[:800])
        folder = str(tmp_path / name)
        assert status_of([*TINY, "--data", folder, "--out", "run"], sound) == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ") and message.count("\n") == 1
        assert figures.one_line(name) in message


@pytest.mark.slow
@pytest.mark.parametrize("data", ["synthesized", "files"])
def test_a_run_leaves_sounds_that_play(data, tmp_path):
    arguments = ["--num-clips", "60"]
    if data == "files":
        folder = tmp_path / "sounds & $x_{$ <b>"
        for index, name in enumerate(HOSTILE_NAMES):
            tone = sine(200 + 50 * index, 2).astype(np.float32)
            write(folder / f"{name}.wav", tone)
        arguments = ["--data", str(folder)]
    assert status_of([*TINY, *arguments, "--out", str(tmp_path / "run")], sound) == 0
    sounds = tmp_path / "run" / "sounds"
    names = {
        "real",
        "real_resynthesized",
        "reconstructions",
        "samples",
        "interpolations",
    }
    assert {file.name for file in sounds.iterdir()} == {f"{name}.wav" for name in names}
    for file in sounds.iterdir():
        rate, samples = wavfile.read(file)
        assert rate == audio.RATE and samples.dtype == np.int16 and samples.ndim == 1
        # Twelve clips are drawn and interpolated, six are real; each is 1,024 samples
        # and a pause.
        many = file.stem in ("samples", "interpolations")
        assert len(samples) == (12 if many else 6) * (1024 + 1600)
        peaks = np.max(np.abs(samples.reshape(-1, 1024 + 1600).astype(int)), axis=1)
        assert np.all((peaks > 29_000) & (peaks < 30_000)), (
            f"{file.name} has a clip that is silent or clipped"
        )
    drawn = {file.stem for file in (tmp_path / "run" / "figures").iterdir()}
    assert drawn == {
        "learning_curves",
        "reconstructions",
        "samples",
        "interpolations",
    }
    report = (tmp_path / "run" / "report.html").read_text()
    assert data == "synthesized" or "&lt;b&gt;" in report and "$ <b>" not in report
    assert (
        report.count("<audio") == len(names)
        and "From the prior, in the order of the figure." in report
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["binarization"] == "none" and np.isfinite(
        summary["test"]["nll"]["mean"]
    )


def test_loud_and_quiet_clips_are_written_with_the_same_peak():
    clips = np.array([0.01, 3.0, 0.0])[:, None] * sine(440)
    rate, samples = wavfile.read(io.BytesIO(audio.wav(clips)))
    written = samples.reshape(3, -1)
    assert rate == audio.RATE and np.all(written[:, -1600:] == 0)
    np.testing.assert_allclose(
        written[:2, :4000] / 32767, 0.9 * np.stack([sine(440)] * 2), atol=2e-3
    )
    assert np.all(written[2] == 0)
