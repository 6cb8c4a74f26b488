"""The report of a run whose names hold anything: escaped, and written."""

import html.parser
import json
import shlex

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.bad_files import HOSTILE

from experiments.harness import report, run_dir
from experiments.harness.experiment import About, Result


class Tags(html.parser.HTMLParser):
    """Collects the elements of a page, with the names of their attributes."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def handle_starttag(self, tag, attrs):
        self.found.add((tag, *sorted(name for name, _ in attrs)))


def tags_of(text, path):
    """Write a report with a text wherever one comes from outside; return its tags."""
    result = Result(
        {}, text, text, [(text, "1", text)], captions={"a": text, "b.wav": text},
        listings={text: [text]},
    )  # fmt: skip
    path.mkdir()
    run_dir.write_figures(path, {"a": Figure()})
    command = f"python -m experiments.mnist --data {shlex.quote(text)}"
    manifest = {
        "command": command, "versions": {},
        "params_sha256": text, "data_sha256": text, "date": text, "commit": text,
        "device": text, "machine": text,
        "key": {"seeds": [0], "implementation": text},
    }  # fmt: skip
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "summary.json").write_text(json.dumps({"data": text}))
    about = About("a model", "", "", "")
    report.write(path, result, about, text, ["a"], {"b.wav": b""})
    tags = Tags()
    tags.feed((path / "report.html").read_text(encoding="utf-8"))
    return tags.found


@pytest.mark.parametrize("text", [*HOSTILE, '"><script>x</script>', "</title><b>"])
def test_no_name_changes_the_page(text, tmp_path):
    assert tags_of(text, tmp_path / "1") == tags_of("plain", tmp_path / "2")
    assert np.all([file.is_file() for file in tmp_path.glob("*/report.html")])
