"""Score curation: which ratings are wrong, judged by the ratings of near rows. METHOD § 1.2, DS2 (arXiv 2410.10877).

Ratings are noisy labels: a row of true class k is observed as class j with probability T[k, j]. Near rows mostly share
their true class, so how often a row and its two nearest neighbours are observed as (i), (i, j), (i, j, l) tells T and
the prior p without knowing any true class (HOC, Zhu et al., arXiv 2102.05291). Rows that their neighbours support
least are then flagged, in each observed class as many as T and p say are wrong, in bootstrap rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_mixup.neighbors import Graph
from lm_mixup.neighbors.search import Float32s, Int64s

Float64s = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_BLOCK = 1 << 15


@dataclass(frozen=True)
class Curation:
    """What curation found out about n ratings of K classes.

    ``classes`` (K,): the class values that occur, rising. ``transition`` (K, K): row k holds the chances that true
    class k is observed as each class; rows sum to 1. ``prior`` (K,) of the true classes. ``flagged`` (n,): the rating
    is probably wrong. ``confidence`` (n,) in 0–1: that it is, and that the neighbours' class is the right one.
    ``curated`` (n,): the ratings, where flagged with enough confidence replaced by the neighbours' class, elsewhere
    untouched. ``note`` says why nothing was flagged, or what was passed over; "" where there is nothing to say.
    """

    classes: Float64s
    transition: Float64s
    prior: Float64s
    flagged: Bools
    confidence: Float32s
    curated: Float64s
    note: str = ""

    @property
    def estimated(self) -> bool:
        """Whether T and p were estimated; where they could not be, T is the identity."""
        return bool((self.transition != np.eye(len(self.classes))).any())

    @property
    def replaced(self) -> Bools:
        """(n,) Flagged and replaced, rather than flagged alone."""
        return self.flagged & (self.confidence >= REPLACE_AT)


REPLACE_AT = 0.5


def curate(
    ratings: npt.NDArray[np.floating[Any]],
    graph: Graph,
    *,
    rows: npt.NDArray[np.integer[Any]] | None = None,
    k: int = 10,
    rounds: int = 51,
    sample: float = 0.9,
    replace_at: float = REPLACE_AT,
    copies_at: float = 0.999,
    min_rows: int = 10,
    min_class: int = 5,
    most_wrong: float = 0.5,
    steps: int = 1501,
    seed: int = 0,
) -> Curation:
    """Curate ``ratings`` (n,), floats without NaN, whose classes are their rounded values (halves upwards).

    ``graph`` has somewhat more than ``k`` neighbours (k / sample and a few); ``rows`` are the numbers in it of the
    rated rows, where those are not all: rows without a rating have no vote. A vote is held among ``k``: the row itself
    and its k − 1 nearest, in ``rounds`` rounds over a share ``sample`` of the rows drawn with ``seed``. Neighbours of
    cosine ``copies_at`` or more are passed over, and of several copies all but the first: a rater errs alike on copies,
    so they confirm whatever stands there. A flagged rating is replaced from confidence ``replace_at`` on. ``steps`` are
    those of the fit of T and p.

    The method rests on near rows mostly sharing their true class. Where T and p say that more than ``most_wrong`` of
    the ratings are wrong, they do not share it (or the ratings are noise), and flagging by them does harm: then nothing
    is flagged, and the note says so. On 4,000 Dolly rows that is the case for each of three LLM raters (0.57–0.61), and
    replacing regardless moves two of them away from the mean of the others: docs/stages/curate.md.

    Fewer than ``min_rows`` rows, a single class, or no row with neighbours other than its copies: nothing is flagged,
    and the note says so. Ratings of a class with fewer than ``min_class`` rows are never flagged.
    """
    values = np.asarray(ratings, np.float64)
    chosen = np.arange(graph.n) if rows is None else np.asarray(rows, np.int64)
    if values.shape != chosen.shape:
        raise ValueError(f"expected one rating for each of {len(chosen)} rows, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a rating is missing or not finite: leave failed ratings out, they are no numbers")
    classes, observed = np.unique(np.floor(values + 0.5), return_inverse=True)
    counts = np.bincount(observed, minlength=len(classes))
    near = _near(graph, chosen, copies_at)
    note = _cannot(len(values), len(classes), near.usable, min_rows)
    if note:
        return _untouched(values, classes, np.eye(len(classes)), counts / max(len(values), 1), note)
    transition, prior = estimate(*consensus(observed, near, len(classes)), steps=steps)
    share = np.clip(1 - np.diag(transition) * prior / (counts / len(values)), 0, 1)
    share[counts < min_class] = 0
    wrong = float(share @ counts / len(values))
    if wrong > most_wrong:
        note = f"near rows do not share their ratings (by them, {wrong:.0%} would be wrong): nothing was flagged"
        return _untouched(values, classes, transition, prior, note)
    often, votes = _vote(observed, near, share, k=k, rounds=rounds, sample=sample, seed=seed)
    winner = votes.argmax(axis=1)
    total = votes.sum(axis=1)
    smoothed = (votes[np.arange(len(votes)), winner] + 1) / (total + len(classes))
    flagged = often > 0.5
    confidence = (smoothed * often).astype(np.float32)
    replaced = flagged & (confidence >= replace_at) & (winner != observed)
    curated = np.where(replaced, classes[winner], values)
    tiny = classes[counts < min_class]
    if len(tiny):
        named = ", ".join(f"{c:g}" for c in tiny)
        note = f"classes with fewer than {min_class} rows were not judged: {named}"
    return Curation(classes, transition, prior, flagged, confidence, curated, note)


def _untouched(values: Float64s, classes: Float64s, transition: Float64s, prior: Float64s, note: str) -> Curation:
    still = np.zeros(len(values), np.bool_)
    return Curation(classes, transition, prior, still, still.astype(np.float32), values.copy(), note)


@dataclass(frozen=True)
class _Near:
    """The graph among the rated rows: ids count those; only ``usable`` entries hold a neighbour that may vote.

    Of rows that are copies of each other, one may, and none on the rating of its own copy.
    """

    ids: Int64s
    similarities: npt.NDArray[np.float16]
    usable: Bools


def _near(graph: Graph, rows: Int64s, copies_at: float) -> _Near:
    where = np.full(graph.n, -1)
    where[rows] = np.arange(len(rows))
    near = graph.ids[rows]
    ids, similarities = where[near], graph.similarities[rows]
    usable = (ids >= 0) & (similarities < np.float16(copies_at))
    text = np.where(usable, graph.copy_of[near], -1 - np.arange(near.shape[1]))
    by = np.argsort(text, axis=1, kind="stable")
    again = np.zeros_like(usable)
    ordered = np.take_along_axis(text, by, axis=1)
    np.put_along_axis(again, by[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return _Near(ids, similarities, usable & ~again)


def _cannot(n: int, classes: int, usable: Bools, min_rows: int) -> str:
    if n < min_rows:
        return f"{n} ratings are too few to judge any: at least {min_rows} are needed"
    if classes < 2:
        return "all ratings are of one class: there is nothing to tell apart"
    if (usable.sum(axis=1) >= 2).sum() < min_rows:
        return "the rows are copies of one another: their neighbours say nothing about their ratings"
    return ""


def consensus(observed: Int64s, near: _Near, count: int) -> tuple[Float64s, Float64s, Float64s]:
    """How often a row and its two nearest neighbours are observed as (i), (i, j), (i, j, l): (K,), (K, K), (K, K, K).

    Frequencies, symmetric in the three: the model does not tell a row from its neighbours.
    """
    first = near.usable.argmax(axis=1)
    rest = near.usable.copy()
    rest[np.arange(len(rest)), first] = False
    second = rest.argmax(axis=1)
    rows = np.flatnonzero(rest.any(axis=1))
    triple = (
        observed[rows],
        observed[near.ids[rows, first[rows]]],
        observed[near.ids[rows, second[rows]]],
    )
    counts = np.bincount(np.ravel_multi_index(triple, (count,) * 3), minlength=count**3).reshape((count,) * 3)
    third: Float64s = np.mean([counts.transpose(axes) for axes in _ORDERS], axis=0) / len(rows)
    return third.sum(axis=(1, 2)), third.sum(axis=2), third


_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def estimate(
    first: Float64s, second: Float64s, third: Float64s, *, steps: int = 1501, rate: float = 0.1
) -> tuple[Float64s, Float64s]:
    """T (K, K) and p (K,) whose consensus frequencies are nearest to these, in squares.

    Both are softmaxes of free parameters, fitted by Adam with gradients in closed form from a T near the identity; the
    best of all steps counts, not the last. HOC, eq. 7–10.
    """
    count = len(first)
    logits = np.concatenate([(5 * np.eye(count)).ravel(), np.log(np.maximum(first, 1e-6))])
    mean, square = np.zeros_like(logits), np.zeros_like(logits)
    best, best_loss = logits, np.inf
    for step in range(1, steps + 1):
        transition, prior = _softmax(logits[:-count].reshape(count, count)), _softmax(logits[-count:])
        weighted = transition * prior[:, None]
        pairs = transition[:, :, None] * transition[:, None, :]
        r1 = weighted.sum(axis=0) - first
        r2 = weighted.T @ transition - second
        r3 = (weighted.T @ pairs.reshape(count, -1)).reshape((count,) * 3) - third
        loss = float((r1**2).sum() + (r2**2).sum() + (r3**2).sum())
        if loss < best_loss:
            best, best_loss = logits, loss
        by_pair = pairs.reshape(count, -1) @ r3.reshape(count, -1).T
        by_one = transition @ r2
        to_transition = prior[:, None] * (r1 + 2 * by_one + 3 * by_pair)
        to_prior = transition @ r1 + (transition * (by_one + by_pair)).sum(axis=1)
        gradient = np.concatenate([_through(transition, to_transition).ravel(), _through(prior, to_prior)])
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        slope = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        logits = logits - rate * (0.5 + 0.5 * np.cos(np.pi * step / steps)) * slope
    return _softmax(best[:-count].reshape(count, count)), _softmax(best[-count:])


def _softmax(logits: Float64s) -> Float64s:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    out: Float64s = raised / raised.sum(axis=-1, keepdims=True)
    return out


def _through(softmax: Float64s, gradient: Float64s) -> Float64s:
    """The gradient of a softmax's logits, from that of its values."""
    out: Float64s = softmax * (gradient - (softmax * gradient).sum(axis=-1, keepdims=True))
    return out


def _vote(
    observed: Int64s, near: _Near, share: Float64s, *, k: int, rounds: int, sample: float, seed: int
) -> tuple[Float64s, Float64s]:
    """Bootstrap: (n,) how often a row is flagged when it is drawn, and (n, K) its neighbours' votes in the mean."""
    n, count = len(observed), len(share)
    rng = np.random.default_rng(seed)
    drawn_in, flagged_in, votes = np.zeros(n), np.zeros(n), np.zeros((n, count))
    by_class = np.argsort(observed, kind="stable")
    for _ in range(rounds):
        drawn = np.zeros(n, np.bool_)
        drawn[rng.permutation(n)[: max(1, round(sample * n))]] = True
        support = np.empty(n)
        for start in range(0, n, _BLOCK):
            part = slice(start, min(start + _BLOCK, n))
            support[part] = _support(observed, near, drawn, part, k - 1, votes)
        drawn_in += drawn
        flagged_in[_least_supported(by_class[drawn[by_class]], observed, support, share)] += 1
    return flagged_in / np.maximum(drawn_in, 1), votes / rounds


def _support(observed: Int64s, near: _Near, drawn: Bools, part: slice, k: int, votes: Float64s) -> Float64s:
    """How many of each row's first k drawn neighbours are of its class; adds all of their votes to ``votes``."""
    count = votes.shape[1]
    ids = near.ids[part]
    here = near.usable[part] & drawn[ids]
    here &= here.cumsum(axis=1, dtype=np.int16) <= k
    row, column = np.nonzero(here)
    label = observed[ids[row, column]]
    key = row * count + label
    tally = np.bincount(key, minlength=len(ids) * count).reshape(-1, count)
    votes[part] += tally
    own = tally[np.arange(len(ids)), observed[part]]
    # ties in the count are broken by how near the supporters are, as a part of all that voted: less than one vote
    weight = near.similarities[part][row, column].astype(np.float64) + 1
    mine = label == observed[part][row]
    closeness = np.bincount(row[mine], weight[mine], len(ids)) / np.maximum(np.bincount(row, weight, len(ids)), 1e-9)
    support: Float64s = np.where(tally.any(axis=1), own + 0.5 * closeness, np.inf)
    return support


def _least_supported(by_class: Int64s, observed: Int64s, support: Float64s, share: Float64s) -> Int64s:
    """The share ``share[c]`` of the rows of each class c that have the least support, of rows sorted by class."""
    edges = np.searchsorted(observed[by_class], np.arange(len(share) + 1))
    chosen = []
    for low, high, part in zip(edges[:-1], edges[1:], share, strict=True):
        rows = by_class[low:high]
        wrong = min(round(part * len(rows)), int(np.isfinite(support[rows]).sum()))
        chosen.append(rows[np.argsort(support[rows], kind="stable")[:wrong]])
    return np.concatenate(chosen)


def transition_svg(curation: Curation, *, cell_px: int = 44) -> str:
    """A figure of T as an SVG document: a row for each true class with its prior, a column for each observed one."""
    count, margin = len(curation.classes), 2 * cell_px
    width, height = margin + count * cell_px + 8, margin + count * cell_px + 8
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="12" text-anchor="middle">',
        f'<text x="{margin + count * cell_px / 2:g}" y="{cell_px * 0.7:g}">observed class</text>',
        f'<text x="{cell_px:g}" y="{cell_px * 1.6:g}">true (prior)</text>',
    ]
    for row, value in enumerate(curation.classes):
        middle = margin + (row + 0.5) * cell_px
        out.append(f'<text x="{middle:g}" y="{cell_px * 1.6:g}">{value:g}</text>')
        out.append(f'<text x="{cell_px:g}" y="{middle + 4:g}">{value:g} ({curation.prior[row]:.2f})</text>')
        for column in range(count):
            share = float(curation.transition[row, column])
            x, ink = margin + column * cell_px, "#fff" if share > 0.5 else "#000"
            out.append(
                f'<rect x="{x}" y="{middle - cell_px / 2:g}" width="{cell_px}" height="{cell_px}" fill="#14508c" '
                f'fill-opacity="{share:.3f}" stroke="#ccc"/>'
                f'<text x="{x + cell_px / 2:g}" y="{middle + 4:g}" fill="{ink}">{share:.2f}</text>'
            )
    return "\n".join([*out, "</svg>"]) + "\n"


@dataclass(frozen=True)
class Joint:
    """What several raters' ratings of n rows come to together.

    ``curated`` (n,): the joint rating, on the scale of the raters taken together. ``flagged`` (n, raters): that rater's
    class is two or more away from the joint one; never where it gave none. ``confidence`` (n,) float32 in 0–1: the
    share of the row's raters that, each read on the common scale, are within one class of the joint rating.
    ``agreement`` (raters, raters): their rank correlations over the rows that both rated, NaN without any.
    """

    curated: Float64s
    flagged: Bools
    confidence: Float32s
    agreement: Float64s


def curate_jointly(
    ratings: npt.NDArray[np.floating[Any]],
    graph: Graph,
    *,
    rows: npt.NDArray[np.integer[Any]] | None = None,
    neighbors: int = 15,
    neighbor_weight: float = 0.25,
    copies_at: float = 0.999,
) -> Joint:
    """Several raters' ratings (n, raters), floats, into one rating a row. Our own: no published method.

    NaN where a rater gave none; each row has one rating or more. ``rows`` as in :func:`curate`.

    Raters differ in scale more than in order (one gives 2 where another gives 4), so each rater's ratings are turned
    into ranks, standardised, and averaged; the average over a row's nearest ``neighbors``, standardised as well, joins
    with ``neighbor_weight``; and the ranks of the sum are read as ratings from all raters' ratings taken together. On
    Dolly, joining two raters so predicts the third better than their mean does, or as well: docs/stages/curate.md.
    """
    values = np.asarray(ratings, np.float64)
    chosen = np.arange(graph.n) if rows is None else np.asarray(rows, np.int64)
    if values.ndim != 2 or len(values) != len(chosen) or not values.shape[1]:
        raise ValueError(f"expected ratings of shape ({len(chosen)}, raters), got {values.shape}")
    given = ~np.isnan(values)
    if not given.any(axis=1).all() or np.isinf(values).any():
        raise ValueError("a rating is infinite, or a row has none: leave rows out that nobody rated")
    raters = values.shape[1]
    if not len(values):
        return Joint(np.empty(0), np.empty(values.shape, np.bool_), np.empty(0, np.float32), np.eye(raters))
    everything = values[given]
    scores, common = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    for rater in np.flatnonzero(given.any(axis=0)):
        mine = given[:, rater]
        ranks = _ranks(values[mine, rater])
        scores[mine, rater] = _standard(ranks)
        common[mine, rater] = np.quantile(everything, (ranks - 0.5) / len(ranks))
    joint = np.nanmean(scores, axis=1)
    near = _near(graph, chosen, copies_at)
    votes = near.usable & (near.usable.cumsum(axis=1) <= neighbors)
    heard = votes.sum(axis=1)
    around = np.where(votes, joint[near.ids], 0).sum(axis=1) / np.maximum(heard, 1)
    mixed = _standard(joint) + neighbor_weight * np.where(heard > 0, _standard(around), 0)
    # rounded: the order of the raters decides the last bits, and must not part what is tied
    level = (_ranks(mixed.round(9)) - 0.5) / len(values)
    curated = np.quantile(everything, level)
    agree = (_classes_apart(common, curated) <= 1).sum(axis=1) / given.sum(axis=1)
    flagged = _classes_apart(values, curated) >= 2
    return Joint(curated, flagged, agree.astype(np.float32), _agreement(scores))


def _classes_apart(values: Float64s, curated: Float64s) -> Float64s:
    """(n, raters) How many classes each rating is away from the row's joint one; NaN where there is none."""
    apart: Float64s = np.abs(np.floor(values + 0.5) - np.floor(curated + 0.5)[:, None])
    return apart


def _agreement(scores: Float64s) -> Float64s:
    raters = scores.shape[1]
    out = np.full((raters, raters), np.nan)
    for a in range(raters):
        for b in range(raters):
            both = ~np.isnan(scores[:, a] + scores[:, b])
            if both.any():
                out[a, b] = float((_standard(scores[both, a]) * _standard(scores[both, b])).mean())
    return out


def _ranks(values: Float64s) -> Float64s:
    """Ranks from 1 on; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    out: Float64s = (last - (counts - 1) / 2)[inverse]
    return out


def _standard(values: Float64s) -> Float64s:
    """Mean 0 and deviation 1, or zeros where all are equal."""
    out: Float64s = (values - values.mean()) / (values.std() or 1)
    return out
