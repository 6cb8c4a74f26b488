"""Figures: what they show is what they were given."""

import io
import warnings

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image
from support.bad_files import HOSTILE

from vaejax import plots


def test_a_tile_puts_every_image_in_its_place_with_a_gap_between():
    images = np.arange(6).reshape(2, 3, 1, 1) / 6
    expected = np.full((3, 5), 0.5)
    expected[::2, ::2] = images[..., 0, 0]
    np.testing.assert_allclose(plots.tile(images), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"tile: images have shape \(2, 3, 4\)"):
        plots.tile(np.zeros((2, 3, 4)))


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_a_tile_shows_every_channel(channels):
    images = np.random.default_rng(0).uniform(size=(1, 2, 4, 4, channels))
    canvas = plots.tile(images)
    if channels == 3:
        np.testing.assert_allclose(canvas[:, 5:], images[0, 1], rtol=1e-6)
    else:
        panels = canvas[:, 4 * channels + 1 :].reshape(4, channels, 4)
        np.testing.assert_allclose(np.moveaxis(panels, 1, -1), images[0, 1], rtol=1e-6)


@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 6), (2, 3, 4, 6, 1), (2, 3, 4, 6, 3), (2, 3, 4, 6, 4)]
)
def test_labels_of_a_grid_stand_at_the_middle_of_their_row_and_column(shape):
    figure = plots.image_grid(
        np.zeros(shape),
        row_labels=["a", "b"],
        column_labels=["1", "2", "3"],
        title="grid",
    )
    (axes,) = figure.axes
    height, width = 4, 6 * (4 if shape[-1] == 4 and len(shape) == 5 else 1)
    np.testing.assert_allclose(
        axes.get_yticks(), [(height - 1) / 2, height + 1 + (height - 1) / 2]
    )
    np.testing.assert_allclose(
        axes.get_xticks(), [(width - 1) / 2 + i * (width + 1) for i in range(3)]
    )
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
    assert axes.get_title() == "grid"


def test_a_matrix_writes_each_number_in_its_cell():
    values = np.array([[0.123, -0.9], [1.0, 0.0], [-0.5, 0.25]])
    figure = plots.matrix(
        values,
        row_labels="abc",
        column_labels="xy",
        label="correlation",
        title="matrix",
    )
    axes = figure.axes[0]
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (column, row): f"{values[row, column]:.2f}"
        for row in range(3)
        for column in range(2)
    }
    np.testing.assert_array_equal(axes.images[0].get_array(), values)
    assert axes.images[0].get_clim() == (-1, 1)
    assert figure.axes[1].get_ylabel() == "correlation"


def test_bars_of_seeds_are_their_mean_with_an_error_of_one_std():
    values = np.array([[1.0, 3.0], [4.0, 4.0]])
    figure = plots.bars(values, labels=["a", "b"], xlabel="latent", ylabel="KL (nats)")
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.containers[1]] == [2.0, 4.0]
    segments = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(
        [np.ptp(segment[:, 1]) / 2 for segment in segments], [np.sqrt(2), 0]
    )
    alone = plots.bars(
        [1.0, 2.0], labels=["a", "b"], xlabel="latent", ylabel="KL (nats)"
    ).axes[0]
    assert [bar.get_height() for bar in alone.patches] == [1.0, 2.0] and not alone.lines


@pytest.mark.parametrize("channels", [(), (3,)])
def test_an_animation_is_a_gif_that_goes_there_and_back(channels):
    frames = np.stack(
        [np.full((1, 2, 3, 4, *channels), gray) for gray in (-0.1, 0.4, 1.1)]
    )
    gif = Image.open(io.BytesIO(plots.animation(frames, seconds=0.2, zoom=3)))
    assert (
        gif.format == "GIF"
        and gif.n_frames == 4
        and gif.size == (3 * (2 * 4 + 1), 3 * 3)
    )
    assert gif.info["duration"] == 200 and gif.info["loop"] == 0
    shades = []
    for frame in range(4):
        gif.seek(frame)
        shades.append(np.asarray(gif.convert("L"))[0, 0])
    assert shades == [0, 102, 255, 102]
    with pytest.raises(ValueError, match=r"animation: frames have shape \(2, 3\)"):
        plots.animation(np.zeros((2, 3)))


ONES = np.ones((2, 2))
# Each public function with a text wherever it takes one.
WITH_TEXTS = {
    "image_grid": lambda t: plots.image_grid(
        np.zeros((1, 1, 8, 8)), title=t, row_labels=[t], column_labels=[t]
    ),
    "curves": lambda t: plots.curves(
        [1, 2], {t: ONES}, xlabel=t, ylabel=t, title=t, log_x=True
    ),
    "heatmaps": lambda t: plots.heatmaps(
        {t: ONES}, xlabel=t, ylabel=t, label=t, title=t
    ),
    "matrix": lambda t: plots.matrix(
        ONES, row_labels=[t, t], column_labels=[t, t], label=t, title=t
    ),
    "bars": lambda t: plots.bars([1, 2], labels=[t, t], xlabel=t, ylabel=t, title=t),
    "histograms": lambda t: plots.histograms({t: ONES}, titles=[t, t], title=t),
    "scatter": lambda t: plots.scatter({t: ONES}, np.array([t, t]), title=t),
}
NUM_TEXTS = {
    "image_grid": 3, "curves": 4, "heatmaps": 5, "matrix": 6, "bars": 5,
    "histograms": 4, "scatter": 3,
}  # fmt: skip


def test_every_function_with_texts_is_drawn_with_hostile_ones():
    others = {"COLORS", "animation", "pad_series", "tile"}
    assert set(WITH_TEXTS) == set(plots.__all__) - others == set(NUM_TEXTS)


@pytest.mark.parametrize("name", WITH_TEXTS)
@pytest.mark.parametrize("text", ["z $x_{$", "_hidden", "100 $ and $"])
def test_texts_are_drawn_as_they_are_given(name, text):
    figure = WITH_TEXTS[name](text)
    figure.draw_without_rendering()
    drawn = [found for found in figure.findobj(Text) if found.get_text() == text]
    assert len(drawn) >= NUM_TEXTS[name]
    assert not any(found.get_parse_math() or found.get_usetex() for found in drawn)


FAR = ("a" * 100_000, "\n" * 300, "\0", "", "{" * 3000)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("matrix", FAR),
        *(
            pytest.param(name, (*HOSTILE, *FAR), marks=pytest.mark.slow)
            for name in WITH_TEXTS
        ),
    ],
)
def test_no_text_breaks_a_figure(name, texts):
    for text in texts:
        with warnings.catch_warnings():
            # The font has not every character, and a long text may leave no room.
            warnings.filterwarnings("ignore", "Glyph|constrained_layout")
            figure = WITH_TEXTS[name](text)
            figure.savefig(io.BytesIO(), dpi=50, bbox_inches="tight")
