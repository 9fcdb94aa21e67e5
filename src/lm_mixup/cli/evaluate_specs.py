"""Distillers and judges of an evaluation, from words on the command line."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lm_mixup.errors import InputError

if TYPE_CHECKING:
    from lm_mixup.collaborators import Edge
    from lm_mixup.evaluation.entrants import Entrant
    from lm_mixup.ledger import Ledger
    from lm_mixup.mixture.rows import Row
    from lm_mixup.ports import LLM, Distiller, Embedder, Rater
    from lm_mixup.recipe import LLMSettings
    from lm_mixup.run_folder import Run

MODELS = ("openai", "openai-batch", "openvino", "transformers", "llama-cpp", "scripted")
"""Kinds of language models (:data:`lm_mixup.llm.connect.FORMS`)."""

DISTILLERS = (
    "extractive, best-source, reference, file:ANSWERS.jsonl, "
    "checked-file:ANSWERS.jsonl (checked as a trained model's are, extraction where a check fails), "
    "trained:NAME_OR_FOLDER (a model of lm-mixup train, checked, extraction where a check fails), "
    "trained-alone:NAME_OR_FOLDER (without checks), "
    "lm:MODEL or MODEL (a prompted model: openai:NAME@URL, openvino:NAME_OR_PATH, transformers:PATH …), "
    "compact:MODEL (asked with the prompt of trained models)"
)
JUDGES = "independent, learned[:HEAD], weights:FILE.npz[:HEAD], knn-bayes:FOLDER, cascade:FOLDER, llm:MODEL"

_NAMED = re.compile(r"^([\w.+ -]+)=(.+)$", re.DOTALL)


@dataclass(frozen=True)
class Decoding:
    """How prompted models answer: greedy, METHOD § 4."""

    max_new_tokens: int
    repetition_penalty: float


class Specs:
    """Makes the objects that specs name. Language models are connected once each, all on the run's ledger."""

    def __init__(self, edge: Edge, run: Run, embedder: Embedder, settings: LLMSettings, decoding: Decoding) -> None:
        self._edge = edge
        self._run = run
        self._embedder = embedder
        self._settings = settings
        self._decoding = decoding
        self._connected: dict[str, LLM] = {}
        self._ledger: Ledger | None = None

    def entrants(self, specs: Sequence[str], rows: Sequence[Row]) -> list[Entrant]:
        """One entrant a spec, ``NAME=SPEC`` or ``SPEC`` alone. Raises InputError for names that are there twice."""
        made = [self._entrant(spec, rows) for spec in specs]
        names = [entrant.name for entrant in made]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"--distiller: two are called {name!r}; give names: --distiller NAME=SPEC")
        return made

    def _entrant(self, given: str, rows: Sequence[Row]) -> Entrant:
        from lm_mixup.evaluation.baselines import BestSource, Given
        from lm_mixup.evaluation.entrants import Entrant

        found = _NAMED.match(given)
        name, spec = (found[1], found[2]) if found else (_name(given), given)
        kind, _, rest = spec.partition(":")
        if spec == "extractive":
            from lm_mixup.distillers.extractive import ExtractiveDistiller

            return Entrant(name, ExtractiveDistiller())
        if spec == "best-source":
            return Entrant(name, BestSource())
        if spec == "reference":
            return Entrant(name, Given.references(rows))
        if kind in ("file", "checked-file") and rest:
            answers = Given.read(Path(rest))
            return Entrant(name, answers, answers.said) if kind == "file" else self._checked(name, answers)
        if kind in ("lm", "compact") and rest:
            return self._prompted(name, rest, "fenced" if kind == "lm" else "compact")
        if kind in ("trained", "trained-alone") and rest:
            return self._trained(name, rest, alone=kind == "trained-alone")
        if kind in MODELS and rest:
            return self._prompted(name, spec, "fenced")
        raise InputError(f"--distiller {_safe(given)}: expected one of {DISTILLERS}")

    def _prompted(self, name: str, spec: str, style: Literal["fenced", "compact"]) -> Entrant:
        from lm_mixup.distillers.lm import LMDistiller
        from lm_mixup.evaluation.entrants import Entrant, Overheard

        heard = Overheard(self.model(spec))
        distiller = LMDistiller(
            heard,
            style=style,
            ask_again=False,
            max_new_tokens=self._decoding.max_new_tokens,
            repetition_penalty=self._decoding.repetition_penalty,
        )
        return Entrant(name, distiller, heard.said)

    def _checked(self, name: str, answers: Distiller) -> Entrant:
        from lm_mixup.distillers.checks import CheckedDistiller
        from lm_mixup.distillers.extractive import ExtractiveDistiller
        from lm_mixup.evaluation.entrants import Entrant

        any_size = sys.maxsize  # whoever answered knew its own range
        checked = CheckedDistiller(answers, ExtractiveDistiller(), max_samples=any_size, max_tokens=any_size)
        return Entrant(name, checked)

    def _trained(self, name: str, model: str, *, alone: bool) -> Entrant:
        from lm_mixup.distillers import trained
        from lm_mixup.evaluation.entrants import Entrant, Overheard

        known = trained.load(model)
        path = trained.runnable(known, cache_dir=self._edge.cache_dir)
        heard = Overheard(self.model(f"openvino:{path}", at_least_at_once=trained.SLOTS, lookup=trained.LOOKUP))
        if alone:
            return Entrant(name, trained.distiller(known, heard), heard.said)
        return Entrant(name, trained.checked(known, heard))

    def judges(self, specs: Sequence[str]) -> dict[str, Rater]:
        """The judges by the names that the tables give them, the first first."""
        return {_name(spec): self.rater(spec, "--judge") for spec in specs}

    def rater(self, spec: str, flag: str) -> Rater:
        """The rater that ``spec`` names; errors name ``flag``."""
        kind, _, rest = spec.partition(":")
        if spec == "independent":
            from lm_mixup.raters.learned import independent_judge

            return independent_judge(self._embedder)
        if kind == "learned":
            from lm_mixup.raters.learned import LearnedRater

            return LearnedRater(embedder=self._embedder, head=rest or "gpt-4o-mini")
        if kind == "weights" and rest:
            from lm_mixup.raters.learned import LearnedRater, Weights

            path, _, head = rest.partition(".npz:")
            file = Path(path if path.endswith(".npz") else f"{path}.npz")
            return LearnedRater(
                embedder=self._embedder, head=head or next(iter(Weights.load(file).heads)), weights=file
            )
        if kind == "knn-bayes" and rest:
            from lm_mixup.raters.knn_bayes import KNNBayesRater
            from lm_mixup.raters.library import RatedLibrary

            return KNNBayesRater(RatedLibrary.load(Path(rest)), embedder=self._embedder)
        if kind == "cascade" and rest:
            from lm_mixup.raters.cascade_rater import CascadeRater

            return CascadeRater.load(Path(rest), embedder=self._embedder)
        if kind == "llm" and rest:
            from lm_mixup.raters.judge import LLMJudge

            return LLMJudge(self.model(rest))
        raise InputError(f"{flag} {_safe(spec)}: expected one of {JUDGES}")

    def model(self, spec: str, *, at_least_at_once: int = 1, lookup: int = 0) -> LLM:
        """The language model that ``spec`` names."""
        if spec not in self._connected:
            from lm_mixup.ledger import Budget, Ledger
            from lm_mixup.llm.connect import connect

            if self._ledger is None:
                self._ledger = self._run.resources.enter_context(Ledger(self._run.folder / "ledger.sqlite"))
            settings = self._settings
            self._connected[spec] = connect(
                spec,
                api_key=self._edge.api_key(),
                ledger=self._ledger,
                cache_dir=self._edge.cache_dir,
                concurrency=settings.concurrency,
                timeout_s=settings.timeout_s,
                max_attempts=settings.max_attempts,
                batch_size=max(settings.batch_size, at_least_at_once),
                lookup=lookup,
                context_tokens=settings.context_tokens,
                budget=Budget(settings.max_usd, settings.max_tokens, settings.max_requests),
                price_in=settings.price_in,
                price_out=settings.price_out,
            )
        return self._connected[spec]


def _name(spec: str) -> str:
    """What a spec without a name is called: no address, and of a path the last part."""
    if "@http" in spec:
        return spec.partition("@http")[0]
    kind, colon, rest = spec.rpartition(":")
    return f"{kind}{colon}{Path(rest).name}" if colon else spec


def _safe(spec: str) -> str:
    """A spec as it may be repeated in an error: without what could be a login in an address."""
    return spec.partition("@")[0]
