"""The report of a run: figures, files, report.html, and the table on the screen."""

import base64
import html
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.harness import distributed, run_dir
from experiments.harness.experiment import About, Result
from vaejax.checkpoints import write_atomically

CAPTIONS = {
    "learning_curves": (
        "Negative ELBO over training. Bands, of several seeds, are one standard "
        "deviation."
    ),
    "reconstructions": (
        "Top: test images as the model sees them. Bottom: the mean of p(x|z), with "
        "one z ~ q(z|x) each."
    ),
    "samples": "New images: latents drawn from the prior, decoded.",
    "interpolations": (
        "Between the images at the left and right ends, along a straight line in "
        "latent space."
    ),
    "manifold": (
        "The latent plane at 20 x 20 quantiles of the prior, 2.5% to 97.5%: each cell "
        "holds equal prior mass."
    ),
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; line-height: 1.2 }
h2 { font-size: 1.2rem; margin-top: 2.2rem } h3 { font-size: 1rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .35rem .8rem .35rem 0; vertical-align: top }
td, th { border-bottom: 1px solid #ddd }
td.number, th.number { text-align: right; white-space: nowrap }
td.number, th.number { font-variant-numeric: tabular-nums }
figure { margin: 1.5rem 0 } figure img { max-width: 100%; height: auto; display: block }
figcaption, .note { color: #555; font-size: .9rem }
code, pre { font: .85rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto }
pre { white-space: pre; overflow-wrap: normal }
@media (min-width: 600px) { td:first-child { white-space: nowrap } }
@media (max-width: 600px) {
  tr, td.note { display: block } td { border: 0 } tr { border-bottom: 1px solid #ddd }
  td.note { padding-top: 0 }
}
"""


def show(
    path: Path,
    result: Result,
    about: About,
    description: str,
    arms: Iterable[str] = (),
) -> None:
    """Write figures, files and report into the folder, and print the numbers.

    Args:
      path: the run folder, with its summary, manifest and configuration.
      result: the result of the run.
      about: the program's entry in the catalogue.
      description: the program's docstring.
      arms: names of the models that were trained, whose folders are named on the
        screen.
    """
    if result.verdict:
        print("\n" + "\n".join(result.verdict), flush=True)
    figures, files = result.figures(), result.files()
    run_dir.write_figures(path, figures)
    run_dir.write_files(path, files)
    write(path, result, about, description, list(figures), files)
    print("\n" + result.table() + "\n")
    print(f"in {path}: report.html, summary.json, manifest.json, and figures/")
    for arm in arms:
        print(f"in {path / arm}: metrics.jsonl, checkpoints/")
    for figure in figures:
        print(f"  figures/{figure}.png")
    for file in files:
        print(f"  {file}")


@distributed.by_first
def write(
    path: Path,
    result: Result,
    about: About,
    description: str,
    figures: Sequence[str],
    files: Mapping[str, bytes],
) -> None:
    """Write report.html into the run folder, atomically.

    Args:
      path: the run folder, with its summary, manifest, configuration and figures.
      result: the result of the run.
      about: the program's entry in the catalogue, which becomes the title.
      description: the program's docstring, which becomes the introduction.
      figures: names of the figures in the folder, in the order of the page.
      files: further files of the run, by path; the page plays the sounds among them.
    """
    summary, manifest = (
        json.loads((path / f"{name}.json").read_text())
        for name in ("summary", "manifest")
    )
    what = about.what[0].upper() + about.what[1:]
    title = f"{what} ({summary['data']}): {result.headline}"
    # One option per line, since a browser would break lines inside them.
    command = in_lines(manifest["command"])
    paragraphs = [
        paragraph
        for paragraph in description.strip().split("\n\n")
        if "Command:" not in paragraph
    ]
    sounds = {name: content for name, content in files.items() if name.endswith(".wav")}
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs),
        *(["<h2>Verdict</h2>"] if result.verdict else []),
        *(f"<p>{html.escape(line)}.</p>" for line in result.verdict),
        "<h2>Numbers</h2>",
        f"<p>{html.escape(result.about)}.</p>",
        _numbers(result.header, result.rows),
        "<h2>Figures</h2>",
        *(
            _figure(path / "figures" / f"{name}.png", _caption(name, result, manifest))
            for name in figures
        ),
        *(["<h2>Sounds</h2>"] if sounds else []),
        *(
            _sound(_caption(name, result, manifest), content)
            for name, content in sounds.items()
        ),
        *(["<h2>Texts</h2>"] if result.listings else []),
        *(_listing(name, lines) for name, lines in result.listings.items()),
        "<h2>How to reproduce it</h2>",
        "<p>From the project's folder, in its environment:</p>",
        f"<pre>{html.escape(command)}</pre>",
        f"<p>{_repeats(manifest)}</p>",
        _table(_provenance(summary, manifest)),
    ]
    # Names of files may hold bytes that are no text.
    page = _page(title, "\n".join(parts)).encode(errors="backslashreplace")
    write_atomically(path / "report.html", page)


def _repeats(manifest: dict) -> str:
    if "environments" in manifest:
        return (
            "The run was continued under other versions, devices or numbers of cores "
            "(environments in manifest.json): the command gives the same result up to "
            "rounding and its consequences."
        )
    return (
        "The same versions on the same machine, with as many cores, give the same "
        "parameters, bit for bit."
    )


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def in_lines(command: str) -> str:
    """Return a command with a line for each of its options."""
    return " ".join(
        f"\\\n  {word}"
        if word.startswith("--")
        else (word if word == "&&" else shlex.quote(word))
        for word in shlex.split(command)
    )


def _numbers(header: tuple[str, ...], rows: Sequence[Sequence[str]]) -> str:
    """The table of a result; without a header, the last column is a note."""
    classes = ["", *["number"] * len(header[1:])] if header else ["", "number", "note"]
    lines = [_row("th", header, classes)] if header else []
    return (
        '<div class="scroll"><table>'
        + "\n".join(lines + [_row("td", row, classes) for row in rows])
        + "</table></div>"
    )


def _row(tag: str, cells: Sequence[str], classes: list[str]) -> str:
    pairs = zip(cells, classes, strict=True)
    return (
        "<tr>"
        + "".join(
            f'<{tag} class="{name}">{html.escape(cell)}</{tag}>' for cell, name in pairs
        )
        + "</tr>"
    )


def _listing(name: str, lines: Sequence[str]) -> str:
    items = "\n".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<h3>{html.escape(name)}</h3>\n<ul>\n{items}\n</ul>"


def _caption(name: str, result: Result, manifest: dict) -> str:
    caption = (CAPTIONS | dict(result.captions)).get(
        name, name.replace("_", " ").capitalize() + "."
    )
    return (
        caption
        if name == "learning_curves" or "over seeds" in caption
        else f"{caption} Seed {manifest['key']['seeds'][0]}."
    )


def _figure(file: Path, caption: str) -> str:
    caption, image = html.escape(caption), base64.b64encode(file.read_bytes()).decode()
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{image}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _sound(caption: str, wav: bytes) -> str:
    data = base64.b64encode(wav).decode()
    return (
        f'<figure><audio controls src="data:audio/wav;base64,{data}"></audio>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _provenance(summary: dict, manifest: dict) -> dict[str, Any]:
    rows = {
        "parameters, SHA-256": manifest["params_sha256"],
        "data, SHA-256": manifest["data_sha256"],
        "versions": ", ".join(
            f"{name} {version}" for name, version in manifest["versions"].items()
        ),
        "date": manifest["date"],
        "commit": manifest["commit"],
        "device": manifest["device"],
        "machine": manifest["machine"],
        "threads of XLA": manifest.get("xla_threads"),
        "random numbers": (
            f"{manifest['key']['implementation']}, seeds {manifest['key']['seeds']}"
        ),
    } | (
        {"training time": f"{summary['training_seconds']:.0f} s"}
        if "training_seconds" in summary
        else {}
    )
    return {name: value for name, value in rows.items() if value is not None}


def _table(rows: dict[str, Any]) -> str:
    cells = (
        f"<tr><td>{html.escape(name)}</td>"
        f"<td><code>{html.escape(str(value))}</code></td></tr>"
        for name, value in rows.items()
    )
    return '<div class="scroll"><table>' + "\n".join(cells) + "</table></div>"
