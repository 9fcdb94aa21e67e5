"""Best of n: which answer wins, and that a search which was killed ends with the same rows."""

import json

import pytest

from lm_mixup.mixture.rows import articles_of, read_articles
from lm_mixup.rewards import Scored
from lm_mixup.training.winners import NO_FORM, NO_SPREAD, NOT_SCORED, winner
from tests.training.conftest import rows


def one(total, answer="a", form=1.0):
    return Scored(total, {"format": form}, answer=answer)


@pytest.mark.parametrize(
    ("group", "wanted"),
    [
        ([one(0.1, "a"), one(0.7, "b"), one(0.3, "c")], ("b", "")),
        ([one(0.7, "a"), one(0.7, "b"), one(0.3, "c")], ("a", "")),
        ([one(None), one(0.2, "b"), one(0.1, "c")], ("b", "")),
        ([one(0.5, "a"), one(0.5, "b")], ("", NO_SPREAD)),
        ([one(0.9, "a", form=0.5), one(0.5, "b")], ("", NO_FORM)),
        ([one(0.9, None), one(0.5, "b")], ("", NO_FORM)),
        ([one(None), one(None)], ("", NOT_SCORED)),
    ],
)
def test_the_winner_of_a_group(group, wanted):
    assert winner(group) == wanted


@pytest.fixture
def search(tiny, mixture, tmp_path, monkeypatch):
    """The search with the tiny model, whose random answers hardly ever have a form: here every text is an answer."""
    pytest.importorskip("trl", reason='needs the extra: pip install "lm-mixup[train]"')
    from lm_mixup.training import winners
    from lm_mixup.training.sft import train_sft
    from tests.fakes import WordEmbedder
    from tests.training import make_golden as golden

    asked = golden.recipe(**{"model.name": str(tiny), "grpo.max_new_tokens": 16, "grpo.subset": False})
    start = train_sft(mixture, tmp_path / "sft", asked, cache_dir=tmp_path, max_steps=1)

    class Lengths:
        def score(self, rollouts):
            return [Scored(len(r.text) / 100, {"format": 1.0}, answer=r.text or "-") for r in rollouts]

    monkeypatch.setattr(winners, "make_scorer", lambda *_: Lengths())

    def run(name, **more):
        return winners.find_winners(
            mixture,
            tmp_path / name,
            asked,
            start=start,
            cache_dir=tmp_path,
            embedder=WordEmbedder(),
            library=None,
            **more,
        )

    return run


def test_a_killed_search_goes_on_to_the_same_rows(search):
    from lm_mixup.mixture.load import load_mixture

    whole = search("whole")
    part = search("part", max_steps=2)
    with (part / "log.jsonl").open("ab") as log:
        log.write(b'{"step":3,"mean":0.')  # what a kill leaves
    assert len(load_mixture(part)) < len(load_mixture(whole))
    search("part", resume=True)
    assert load_mixture(part) == load_mixture(whole)
    told = json.loads((whole / "train.json").read_text())
    assert told["rows"] == len(load_mixture(whole))
    assert read_articles(part.parent / "sft") == articles_of(
        (row.group, row.id) for row in rows() if row.split == "sft"
    )
    assert told["prompts"] == 12 == told["rows"] + sum(told["left_out"].values())
    lines = [json.loads(line) for line in (part / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 7))
    assert all(line["best"] >= line["mean"] for line in lines)
