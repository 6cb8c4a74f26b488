"""The report of the benchmark: tables on the screen, and a figure."""

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.benchmarks.products import (
    ALONE,
    IN_A_SCAN,
    ORDERS,
    Product,
    heavy,
    order_key,
)
from experiments.benchmarks.timing import Times, spread
from vaejax import plots
from vaejax.checkpoints import write_atomically

FLOOR = "floor: matrix products alone"
OURS = "vaejax, one program an epoch"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned columns, the first to the left."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        for row in (header, *rows)
    ]
    return "\n".join("  " + "  ".join(line).rstrip() for line in lines)


def interval(values: Sequence[float], digits: int = 2) -> str:
    """Return median and range over rounds, as text."""
    middle, low, high = spread(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return seconds, microseconds per step and ratios of a row, as text."""
    return [
        f"{row['seconds_median']:.3f}",
        f"{row['microseconds_a_step']:.0f}",
        interval(row["ratios"]),
    ]


def print_products(products: Sequence[Product], times: Times) -> None:
    """Print the floor's matrix products and their rates."""
    lines = [
        [
            p.name,
            p.shape,
            "1",
            f"{p.flops / 1e6:.1f}",
            f"{statistics.median(times.rates[p.shape]) / 1e9:.0f}",
        ]
        for p in products
    ]
    lines.append(
        [
            "together",
            "",
            str(len(products)),
            f"{sum(p.flops for p in products) / 1e6:.1f}",
            "",
        ]
    )
    print(
        "\nFloor: the matrix products of a step; the rate of each shape by itself is "
        "the median over rounds"
    )
    print(table(["", "rows x inner x columns", "per step", "MFLOP", "GFLOP/s"], lines))
    large = {
        shape: rates
        for shape, rates in times.rates.items()
        if shape not in {p.shape for p in products} and ", " not in shape
    }
    for shape, rates in large.items():
        print(f"  {shape}: {statistics.median(rates) / 1e9:.0f} GFLOP/s")
    print_orders(products, times)
    best = interval([rate / 1e9 for rate in times.best_rates], 0)
    print(f"  best of all, by round: {best} GFLOP/s; that rate makes the floor")


def print_orders(products: Sequence[Product], times: Times) -> None:
    """Print the rates of the large products of a step in every order of dimensions."""
    shapes = heavy(products)
    lines = []
    for order in ORDERS:
        keys = [order_key(p, order, w) for p in shapes for w in (ALONE, IN_A_SCAN)]
        medians = [statistics.median(times.rates[key]) for key in keys]
        lines.append([order, *(f"{rate / 1e9:.0f}" for rate in medians)])
    header = [p.shape if w == ALONE else w for p in shapes for w in (ALONE, IN_A_SCAN)]
    print(
        "\n  GFLOP/s of rows x inner x columns by the order in which operands and "
        "output are stored, alone and in a scan"
    )
    print(table(["", *header], lines))


def print_parts(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the parts of a step."""
    total = list(rows.values())[-1]["fastest_microseconds"]
    lines = [[FLOOR, "", "", "", f"{rows[FLOOR]['fastest_microseconds']:.0f}", ""]]
    for name, row in rows.items():
        if name != FLOOR:
            part = [
                f"{row['added_microseconds']:.0f}",
                f"{row['added_microseconds'] / total:.0%}",
            ]
            so_far = [f"{row['fastest_microseconds']:.0f}", interval(row["ratios"])]
            lines.append(
                [f"+ {name}", *part, interval(row["added_by_round"], 0), *so_far]
            )
    lines.append(["our epoch", f"{total:.0f}", "100%", "", f"{total:.0f}", ""])
    print(
        "\nParts of a step, in us: each program does one thing more than the one "
        "before; the part is the difference"
    )
    print(
        "of their fastest rounds, since other work on the machine only adds; noise may "
        "leave it below zero"
    )
    print(
        table(
            [
                "",
                "us",
                "share",
                "difference by round",
                "us so far",
                "of the floor, by round",
            ],
            lines,
        )
    )


def print_throughput(what: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print rows with their images per second."""
    lines = [
        [name, *cells(row), f"{row['images_a_second']:,.0f}"]
        for name, row in rows.items()
    ]
    print(
        table([what, "seconds", "us per step", "relative, by round", "images/s"], lines)
    )


def figure(sections: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw the epoch's rows as bars, and the parts of a step, where measured."""
    draws = {
        name: draw
        for name, draw in (("epoch", draw_epoch), ("parts", draw_parts))
        if name in sections
    }
    heights = [{"epoch": 3.2, "parts": 2.2}[name] for name in draws]
    result = Figure(figsize=(7.2, sum(heights)), layout="constrained")
    axes = result.subplots(len(draws), squeeze=False, height_ratios=heights)[:, 0]
    for axis, (name, draw) in zip(axes, draws.items(), strict=True):
        draw(axis, sections[name])
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return result


def draw_epoch(axes: Any, section: Mapping[str, Any]) -> None:
    """Draw our time relative to that of each other row."""
    ratios = {
        name: [1 / ratio for ratio in row["ratios"]]
        for name, row in section["rows"].items()
        if name != OURS
    }
    medians, lows, highs = np.transpose([spread(values) for values in ratios.values()])
    colors = [
        plots.COLORS[1 if name == FLOOR else 0 if name.startswith("vaejax") else 5]
        for name in ratios
    ]
    places = np.arange(len(ratios))
    axes.barh(places, medians, color=colors, height=0.65)
    axes.errorbar(
        medians,
        places,
        xerr=[medians - lows, highs - medians],
        fmt="none",
        ecolor="black",
        elinewidth=0.8,
        capsize=2,
    )
    for place, values in zip(places, ratios.values(), strict=True):
        axes.text(
            1.02,
            place,
            interval(values),
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
        )
    axes.axvline(1, color="black", linewidth=0.6, linestyle=":")
    axes.set_yticks(places, list(ratios))
    axes.invert_yaxis()
    # A single disturbed round would dwarf every bar; the numbers beside them have its
    # length.
    axes.set_xlim(0, min(1.05 * highs.max(), 1.5 * medians.max()))
    axes.set_xlabel(
        "our time relative to each (below 1: ours is shorter); median over rounds, "
        "min to max",
        fontsize=8,
    )
    axes.set_title("Time of one epoch, by library", fontsize=9)


def draw_parts(axes: Any, section: Mapping[str, Any]) -> None:
    """Draw the parts of a step as one stacked bar.

    A part that noise made negative has no width; its label has the number.
    """
    rows = {name: row for name, row in section["rows"].items() if name != FLOOR}
    left = 0.0
    for color, (name, row) in zip(plots.COLORS, rows.items(), strict=False):
        added = row["added_microseconds"]
        axes.barh(
            0,
            max(added, 0),
            left=left,
            color=color,
            label=f"{name}: {added:.0f}",
            height=0.5,
        )
        left += max(added, 0)
    floor = section["rows"][FLOOR]["fastest_microseconds"]
    axes.axvline(floor, color="black", linestyle="--", label=f"floor: {floor:.0f}")
    axes.set_yticks([])
    axes.set_ylim(-0.4, 0.4)
    axes.set_xlabel("microseconds per step, of the fastest rounds", fontsize=8)
    axes.set_title("The parts of our step", fontsize=9)
    axes.legend(
        frameon=False,
        fontsize=8,
        ncols=2,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.35),
    )


def write_figure(path: Path, drawn: Figure) -> None:
    """Write a figure as PNG, atomically."""
    write_atomically(
        path, partial(drawn.savefig, format="png", dpi=200, bbox_inches="tight")
    )
