import json
import sys
from xml.etree import ElementTree

import pytest
from benchmarks.neighbors_plot import drawing, exponent

SVG = "{http://www.w3.org/2000/svg}"


def test_the_exponent_is_that_of_the_points():
    assert exponent([(100, 2.0), (200, 7.0), (400, 16.0)]) == pytest.approx(1.5)


def test_the_plot_holds_every_point_and_names_every_series():
    drawn = ElementTree.fromstring(
        drawing({"graph": [(1000, 0.1), (4000, 0.8)], "curation": [(1000, 0.2), (4000, 0.5)]})
    )
    assert len(list(drawn.iter(f"{SVG}circle"))) == 4
    texts = [element.text for element in drawn.iter(f"{SVG}text")]
    assert {"graph: N^1.50", "curation: N^0.66", "- - N^1.5", "1K", "4K"} <= set(texts)


def test_growth_measures_what_is_missing_and_draws_it(tmp_path, monkeypatch, capsys):
    pytest.importorskip("faiss")
    pytest.importorskip("sklearn")
    from benchmarks import neighbors

    told = tmp_path / "growth.json"

    def run(*sizes):
        command = ["neighbors", "--growth", told, "--textbook-rows", "100", "--sizes", *sizes]
        monkeypatch.setattr(sys, "argv", [str(part) for part in command])
        neighbors.main()
        return json.loads(told.read_text(encoding="utf-8"))

    first = run(300)
    both = run(300, 600)
    assert both["300"] == first["300"]
    assert {one["n"] for one in both["600"]} == {600}
    by_work = {one["work"]: one for one in both["600"]}
    clusters = by_work["cluster 2-25, mean 10"]["quality"]
    assert clusters["pairwise_cosine_by_row"] > 0.7
    assert set(clusters["same_rows"]["textbook"]) == set(clusters["same_rows"]["ours"])
    assert by_work["long-tail, k = 15 (with the graph)"]["quality"]["spearman_with_exact"] > 0.999
    assert len(list(ElementTree.parse(told.with_suffix(".svg")).iter(f"{SVG}circle"))) == 2 * (len(both["600"]) - 2)
    assert "600 rows" in capsys.readouterr().out
