"""Write README's table of experiments: `python docs/_ext/experiment_table.py`.

What a program does and its cost come from its `ABOUT`; our numbers and the published
ones from `experiments/tables/overview.toml`, whose templates look them up in
`experiments/results/` and `experiments/tables/`.
"""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import results  # noqa: E402

BEGIN, END = "<!-- experiments:begin -->", "<!-- experiments:end -->"
#: Programs whose numbers are on another page than `docs/results/NAME.md`.
PAGES = {"benchmark": "performance.md", "throughput": "performance.md"}


def table() -> str:
    """Return the table as Markdown, with a newline at its end."""
    overview = tomllib.loads((results.TABLES / "overview.toml").read_text())
    rows = [
        "| `python -m experiments.…` | what it does | cost | ours | published |",
        "|---|---|---|---|---|",
        *(_row(name, entry) for name, entry in overview.items()),
    ]
    return "\n".join(rows) + "\n"


def _row(name: str, entry: dict[str, str]) -> str:
    about = results.about(name)
    page = PAGES.get(name, f"results/{name}.md")
    ours, published = (
        results.render(entry.get(key, "")).strip() for key in ("ours", "published")
    )
    cost = "; ".join(filter(None, (about.cost, results.peak_memory(name))))
    cells = (f"[`{name}`](docs/{page})", about.what, cost, ours, published)
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def with_table(readme: str) -> str:
    """Return README's text with a new table between its markers."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_table(path.read_text()))
