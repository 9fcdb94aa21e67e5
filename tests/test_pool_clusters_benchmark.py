import numpy as np
import pytest
from benchmarks.pool_clusters import ALONE, BASE, Made, at_equal_length, draw, reasons, taken_by_source

from lm_mixup.evaluation.bootstrap import ROWS
from lm_mixup.records import Cluster, Distillate, Failure, TaskType


def cluster(name, source):
    return Cluster(name, TaskType.QA, "en", source, (), ())


def distillate(think):
    return Distillate("c", "c", TaskType.QA, "en", "made", ("a",), ("a",), "Q: a\nA: b", (), think)


def test_clusters_are_drawn_evenly_and_a_smaller_draw_is_part_of_a_larger_one():
    pool = [
        cluster(f"{source}{i}", source) for source, count in {"a": 50, "b": 50, "c": 3}.items() for i in range(count)
    ]
    drawn = draw(pool, 23, 0)
    assert [sum(c.source == s for c in drawn) for s in "abc"] == [10, 10, 3]
    assert drawn == draw(pool, 23, 0) != draw(pool, 23, 1)
    assert set(drawn) < set(draw(pool, 40, 0))
    assert len(draw(pool, 500, 0)) == len(pool)


def test_why_extraction_was_taken_is_counted_without_figures():
    results = [
        distillate("[checked: holds 100% of the sources' facts; 100% of its claims have a source]"),
        distillate("base\n[fallback: the model's holds 60% of the facts, this 100%]"),
        distillate("base\n[fallback: the model's holds 5% of the facts, this 90%]"),
        Failure("c", "distill", "nothing-usable"),
    ]
    assert reasons(results) == {
        "taken from the model": 1,
        "the model's holds N of the facts, this N": 2,
        "failed: nothing-usable": 1,
    }
    assert taken_by_source(results, ["a", "a", "b", "b"]) == {"a": 0.5, "b": 0.0, ROWS: 0.25}


def test_equal_length_takes_off_what_the_judge_gives_for_words():
    words = np.exp(np.linspace(2, 5, 30))
    clusters = [cluster(str(i), "a") for i in range(30)]
    made = {name: Made([], 0.0) for name in (BASE, ALONE)}
    for one, factor in zip(made.values(), (1.0, 1.05), strict=True):
        one.values = {"words": words * factor, "rating": 0.5 * np.log(words * factor)}
    at_equal_length(made, clusters)
    assert made[ALONE].values["at length"] == pytest.approx(made[BASE].values["at length"])
    assert np.isfinite(made[ALONE].values["like length"]).all()
    made[ALONE].values["words"] = words * 2
    at_equal_length(made, clusters)
    assert np.isnan(made[ALONE].values["like length"]).all()
