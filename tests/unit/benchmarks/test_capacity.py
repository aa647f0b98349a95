"""The tables of docs/scaling.md: what follows from the figures, and that the page has it."""

import json

import pytest

from benchmarks import capacity
from benchmarks.readme_table import ReadmeError


def results(folder, value=10.0, *, without=""):
    for benchmark in {one.benchmark for one in capacity.MEASURED.values()}:
        figures = [
            {"contestant": one.figure, "value": value}
            for short, one in capacity.MEASURED.items()
            if one.benchmark == benchmark and short != without
        ]
        (folder / f"{benchmark}.json").write_text(json.dumps({"figures": figures}))
    return folder


def row(text, what):
    return [
        cell.strip()
        for line in text.splitlines()
        if line.startswith(f"| {what} |")
        for cell in line.split("|")[3:6]
    ]


def test_what_follows_from_the_figures(tmp_path):
    text = capacity.render(capacity.load(results(tmp_path)))
    assert row(text, "cores of workers") == ["0.2", "1.7", "16.7"]
    assert row(text, "workers") == ["2", "5", "50"]
    assert row(text, "partitions, and so shards") == ["8", "16", "256"]
    assert row(text, "memory, windows up to an hour") == ["720 MB", "7.2 GB", "72 GB"]
    assert row(text, "databases") == ["1", "1", "1"]
    assert row(capacity.render(dict.fromkeys(capacity.MEASURED, 500.0)), "databases") == ["1", "1", "4"]


def test_a_figure_that_is_missing_is_named(tmp_path):
    with pytest.raises(ReadmeError, match=r"footprint\.json has no figure 'kafka: worker, CPU'"):
        capacity.load(results(tmp_path, without="worker"))


def test_the_page_has_the_tables_of_the_results():
    capacity.update(check=True)


def test_tables_that_were_edited_by_hand_are_found(tmp_path, monkeypatch):
    page = tmp_path / "scaling.md"
    page.write_text("\n".join(["# X", *capacity.MARKS]))
    monkeypatch.setattr(capacity, "PAGE", page)
    monkeypatch.setattr(capacity, "RESULTS", results(tmp_path))
    assert capacity.main(["--check"]) == 1
    assert capacity.main([]) == 0
    assert capacity.main(["--check"]) == 0
    page.write_text(page.read_text().replace("720 MB", "72 MB"))
    assert capacity.main(["--check"]) == 1
