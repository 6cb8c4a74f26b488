"""Pages of results: every number on them is looked up, every figure is shown."""

import json
import re
from pathlib import Path

import pytest
from support.documents import extension

ROOT = Path(__file__).parents[2]
DOCS, RESULTS = ROOT / "docs", ROOT / "experiments" / "results"
CLAIMS = DOCS / "claims.md"
PAGES = [*sorted((DOCS / "results").glob("*.md")), DOCS / "performance.md", CLAIMS]
PAGES += [DOCS / "guide/tuning.md"]
# Code, and what Jinja evaluates; link targets are file names.
NOT_PROSE = (
    r"^```.*?^```",
    r"\{%.*?%\}",
    r"\{\{.*?\}\}",
    r"`[^`]*`",
    r"\]\([^)]*\)",
)


def prose(text: str) -> str:
    for pattern in NOT_PROSE:
        text = re.sub(pattern, "", text, flags=re.DOTALL | re.MULTILINE)
    return text


@pytest.fixture(params=PAGES, ids=lambda path: path.stem)
def page(request) -> Path:
    return request.param


def test_no_number_is_kept_by_hand(page):
    assert not re.findall(r"\d+\.\d+", prose(page.read_text()))


def test_a_number_kept_by_hand_would_be_seen():
    text = "{{ x | pm }} of `0.1` is\n```sh\n--beta 0.5\n```\nabout 94.2 nats"
    assert re.findall(r"\d+\.\d+", prose(text)) == ["94.2"]


def test_every_number_is_found(page):
    text = extension("results").render(page.read_text())
    assert "{{" not in text and "{%" not in text


def test_the_sections_come_in_the_same_order(page):
    if page.stem == "index" or page == CLAIMS:
        return
    titles = re.findall(r"^## (.*)", page.read_text(), flags=re.MULTILINE)
    assert titles[0] == "Run it" and titles[-1] == "Limits"
    assert page.stem == "performance" or titles[1] == "Results"


def test_every_claim_has_a_place_a_number_and_a_verdict():
    text = extension("results").render(CLAIMS.read_text())
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith("| claim")
    ]
    assert len(rows) >= 28
    for claim, where, number, verdict in rows:
        assert "{doc}" in where and re.search(r"\d", number), claim
        assert verdict.startswith(("yes", "no", "in part", "in short")), claim


def test_every_notebook_bears_out_claims():
    text = CLAIMS.read_text()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"<notebooks/{notebook.stem}>" in text


def test_what_a_notebook_does_not_print_is_not_found():
    printed = extension("results").printed
    assert printed("02_the_bound", "ELBO of the true posterior").endswith("nats")
    with pytest.raises(LookupError, match="0 lines of its outputs"):
        printed("02_the_bound", "ELBO of another posterior")


def test_every_program_has_a_page():
    programs = {
        path.stem
        for path in (ROOT / "experiments").glob("*.py")
        if not path.stem.startswith("_")
    }
    described = {path.stem for path in PAGES} - {
        "index",
        "performance",
        "tuning",
        "claims",
    }
    assert described == programs - {"benchmark", "throughput", "on_ray", "tune"}
    performance = (DOCS / "performance.md").read_text()
    assert "experiments.benchmark" in performance
    assert "experiments.throughput" in performance


def test_every_figure_is_shown():
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", page.read_text())
    }
    figures = {*RESULTS.glob("*/figures/*.png"), *RESULTS.glob("*/*.png")}
    assert shown == {figure.resolve() for figure in figures}


def test_published_numbers_name_their_source():
    for path in (ROOT / "experiments" / "tables").glob("*.toml"):
        if path.stem == "overview":
            continue
        table = extension("results").published(path.stem)
        assert table["source"] and table["metric"] and table["protocol"]
        assert all("value" in cell for cell in table["cells"].values())


def test_the_cost_of_a_program_has_the_largest_peak_of_its_runs(tmp_path, monkeypatch):
    results = extension("results")
    runs = {"text": ("text", 2**30), "text_own": ("text", 3 * 2**29), "old": ("old", 0)}
    for folder, (program, peak) in runs.items():
        (tmp_path / folder).mkdir()
        manifest = {"command": f"python -m experiments.{program} --seed 0"}
        if peak:
            manifest["peak_resident_bytes"] = peak
        (tmp_path / folder / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert results.peak_memory("text") == "peak memory 1.5 GiB"
    assert results.peak_memory("old") == results.peak_memory("none") == ""
