"""From a recipe to the objects that do the work. What the user passes in takes the recipe's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lm_mixup.embed.cached import CachedEmbedder, vector_schema
from lm_mixup.errors import RecipeError
from lm_mixup.ports import LLM, Distiller, Embedder, Rater
from lm_mixup.raters.cascade_rater import Cascade
from lm_mixup.recipe import Recipe
from lm_mixup.run_folder import Run
from lm_mixup.steps import Collaborators

if TYPE_CHECKING:
    from lm_mixup.ledger import Ledger
    from lm_mixup.raters.learned import LearnedRater

EMBEDDED_MODEL = "all-minilm-l6-v2"
KEY_VARIABLES = ("LM_MIXUP_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold an endpoint's key, the first that is set counts."""

BATCH_ROUNDS = 2
"""Of a cascade whose judge is asked by a batch endpoint: each may take a day."""


@dataclass(frozen=True)
class Edge:
    """What enters at the edge: the environment, where models are kept, and who watches a download.

    ``download`` is called with a model's name, the bytes done and the bytes in all.
    """

    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    cache_dir: Path = field(default_factory=lambda: Path.home() / ".cache" / "lm-mixup")
    download: Callable[[str, int, int], None] | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str], download: Callable[[str, int, int], None] | None = None) -> Edge:
        """The edge of a process with this environment; ``LM_MIXUP_CACHE`` moves the folder of models."""
        cache = environment.get("LM_MIXUP_CACHE")
        return cls(environment, Path(cache) if cache else Path.home() / ".cache" / "lm-mixup", download)

    @property
    def hub(self) -> str:
        """Address of the Hugging Face hub, or of a mirror that ``HF_ENDPOINT`` names."""
        from lm_mixup.models import DEFAULT_HUB

        return self.environment.get("HF_ENDPOINT") or DEFAULT_HUB

    def api_key(self) -> str | None:
        """The key for endpoints, if one is set."""
        return next((self.environment[name] for name in KEY_VARIABLES if self.environment.get(name)), None)


def assemble(
    recipe: Recipe,
    run: Run,
    edge: Edge,
    *,
    embedder: Embedder | None = None,
    rater: Rater | None = None,
    distiller: Distiller | None = None,
    llm: LLM | None = None,
    offline: bool = False,
    meter: Callable[[LLM, Ledger], LLM] | None = None,
) -> Collaborators:
    """The collaborators that the recipe names, except for those that are given.

    ``offline``: language models answer from the run's ledger alone, and no key is used. ``meter`` wraps each model with
    its ledger, for whoever wants to count.

    Raises RecipeError where the recipe asks for a language model and names none, ModelError where a model cannot be
    had, and MissingExtraError where a package is missing.
    """
    inner = embedder or make_embedder(recipe, edge)
    remembering = CachedEmbedder(inner, run.store("vectors", inner.key, vector_schema(inner.dim)))
    models = _Models(recipe, run, edge, llm, offline, meter)
    return Collaborators(
        embedder=remembering,
        rater=rater or _rater(recipe, remembering, models),
        distiller=distiller or _distiller(recipe, models),
    )


def make_embedder(recipe: Recipe, edge: Edge) -> Embedder:
    """The embedder that ``embed.model`` names."""
    settings = recipe.embed
    kind, _, rest = settings.model.partition(":")
    if settings.model == "hashing":
        from lm_mixup.embed.hashing import HashEmbedder

        return HashEmbedder()
    if kind == "transformers" and rest:
        from lm_mixup.embed.transformers import TransformersEmbedder

        return TransformersEmbedder(rest, pooling=settings.pooling, max_windows=settings.max_windows)
    if kind == "openai" and rest:
        from lm_mixup.embed.endpoint import EndpointEmbedder

        name, at, url = rest.rpartition("@")
        if not at:
            raise RecipeError(f"embed.model: expected openai:MODEL@URL, got {settings.model!r}")
        if settings.dim is None:
            raise RecipeError(f"embed.dim: needed for {name!r}: the length of its vectors, e.g. 1024")
        return EndpointEmbedder(url, name, dim=settings.dim, api_key=edge.api_key(), max_windows=settings.max_windows)
    from lm_mixup.embed.minilm import MiniLMEmbedder
    from lm_mixup.models import resolve

    folder = resolve(settings.model, cache_dir=edge.cache_dir, progress=edge.download, hub=edge.hub)
    return MiniLMEmbedder(folder, threads=settings.threads, max_windows=settings.max_windows)


class _Models:
    """The language models of a run, each connected once, all on one ledger."""

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        edge: Edge,
        given: LLM | None,
        offline: bool,
        meter: Callable[[LLM, Ledger], LLM] | None,
    ) -> None:
        self._recipe = recipe
        self._run = run
        self._edge = edge
        self._given = given
        self._offline = offline
        self._meter = meter
        self._connected: dict[str, LLM] = {}
        self.cache_dir = edge.cache_dir
        self._ledger: Ledger | None = None

    @property
    def by_batch(self) -> bool:
        """Whether a model that was asked for works by batches, each of which may take a day."""
        from lm_mixup.llm.openai_batch import OpenAIBatch

        return isinstance(self._given, OpenAIBatch) or any(spec.startswith("openai-batch:") for spec in self._connected)

    def get(self, wanted: str | None, setting: str) -> LLM:
        """The model that was given, or ``wanted``, or the recipe's; errors name ``setting``."""
        if self._given is not None:
            return self._given
        spec = wanted or self._recipe.llm.model
        if spec is None:
            raise RecipeError(
                f"{setting} needs a language model, and none is named: give --llm openai:MODEL@URL, or set llm.model"
            )
        return self.connected(spec)

    def connected(self, spec: str, *, at_least_at_once: int = 1, lookup: int = 0) -> LLM:
        """The model that ``spec`` names, whatever model was given."""
        if spec not in self._connected:
            from lm_mixup.ledger import Budget, Ledger
            from lm_mixup.llm.connect import connect

            if self._ledger is None:
                self._ledger = self._run.resources.enter_context(Ledger(self._run.folder / "ledger.sqlite"))
            settings = self._recipe.llm
            caps = Budget(settings.max_usd, settings.max_tokens, settings.max_requests)
            connected = connect(
                spec,
                api_key=None if self._offline else self._edge.api_key(),
                offline=self._offline,
                budget=Budget() if self._offline else caps,
                price_in=settings.price_in,
                price_out=settings.price_out,
                batch_size=max(settings.batch_size, at_least_at_once),
                lookup=lookup,
                context_tokens=settings.context_tokens,
                ledger=self._ledger,
                cache_dir=self._edge.cache_dir,
                concurrency=settings.concurrency,
                requests_per_minute=settings.requests_per_minute,
                tokens_per_minute=settings.tokens_per_minute,
                timeout_s=settings.timeout_s,
                max_attempts=settings.max_attempts,
            )
            self._connected[spec] = self._meter(connected, self._ledger) if self._meter else connected
        return self._connected[spec]


def make_judge(recipe: Recipe, run: Run, edge: Edge, spec: str) -> Rater:
    """A judge as ``rate`` and ``llm`` set it, that asks the model ``spec`` on the run's ledger."""
    rate = recipe.rate.model_copy(update={"llm": spec, "judges": []})
    return _judge(recipe.model_copy(update={"rate": rate}), _Models(recipe, run, edge, None, False, None))


def _judge(recipe: Recipe, models: _Models) -> Rater:
    """The judge that ``rate`` describes, or a panel of several."""
    from lm_mixup.raters.judge import LLMJudge

    settings = recipe.rate
    judges = {
        spec: LLMJudge(
            models.get(spec or settings.llm, f"rate.rater: {settings.rater}"),
            temperature=settings.temperature,
            draws=settings.draws,
            expected=settings.expected,
        )
        for spec in settings.judges or [""]
    }
    if len(judges) == 1:
        return next(iter(judges.values()))
    from lm_mixup.raters.panel import Panel

    return Panel({f"{number} {judge.model}": judge for number, judge in enumerate(judges.values(), start=1)})


def _start(recipe: Recipe, embedder: CachedEmbedder) -> LearnedRater | None:
    """The learned rater that a cascade starts from; none where the shipped weights do not know the embedder."""
    from lm_mixup.raters.learned import SHIPPED, LearnedRater, Weights

    settings = recipe.rate
    if settings.weights is None and not Weights.load(SHIPPED).understand(embedder.key):
        return None
    weights = Path(settings.weights) if settings.weights else None
    return LearnedRater(embedder=embedder, head=settings.head, weights=weights)


def _rater(recipe: Recipe, embedder: CachedEmbedder, models: _Models) -> Rater | Cascade:
    if recipe.rate.rater == "judge":
        return _judge(recipe, models)
    if recipe.rate.rater == "cascade":
        from lm_mixup.raters.cascade import Plan

        judge = _judge(recipe, models)
        plan = Plan(share=recipe.rate.judge_share, seed=recipe.seed)
        if models.by_batch:
            plan = replace(plan, rounds=BATCH_ROUNDS)
        return Cascade(judge, plan=plan, start=_start(recipe, embedder))
    if recipe.rate.rater == "knn-bayes":
        from lm_mixup.raters.knn_bayes import KNNBayesRater
        from lm_mixup.raters.library import RatedLibrary

        if recipe.rate.library is None:
            raise RecipeError("rate.rater: knn-bayes needs rate.library, a folder that lm-mixup library build made")
        return KNNBayesRater(RatedLibrary.load(Path(recipe.rate.library)), embedder=embedder)
    from lm_mixup.raters.learned import LearnedRater

    weights = Path(recipe.rate.weights) if recipe.rate.weights else None
    return LearnedRater(embedder=embedder, head=recipe.rate.head, weights=weights)


def _trained(recipe: Recipe, models: _Models) -> Distiller:
    """A model that lm-mixup trained, run by OpenVINO, with extraction where its answer fails a check."""
    from lm_mixup.distillers import trained
    from lm_mixup.llm.later import Later

    settings = recipe.distill
    model = trained.load(settings.model)

    def make() -> LLM:
        path = trained.runnable(model, cache_dir=models.cache_dir)
        return models.connected(f"openvino:{path}", at_least_at_once=trained.SLOTS, lookup=trained.LOOKUP)

    return trained.checked(
        model,
        Later(trained.identity(model), make),
        templates=settings.templates,
        least_rating=settings.model_from,
        least_alike=settings.model_alike,
    )


def _distiller(recipe: Recipe, models: _Models) -> Distiller:
    from lm_mixup.distillers.extractive import ExtractiveDistiller

    settings = recipe.distill
    extractive = ExtractiveDistiller(templates=settings.templates)
    if settings.distiller == "extractive":
        return extractive
    if settings.distiller == "trained":
        return _trained(recipe, models)
    from lm_mixup.distillers.lm import LMDistiller

    return LMDistiller(
        models.get(settings.llm, "distill.distiller: lm"),
        style=settings.style,
        templates=settings.templates,
        max_input_tokens=settings.max_input_tokens,
        max_new_tokens=settings.max_new_tokens,
        repetition_penalty=settings.repetition_penalty,
        fallback=extractive if settings.fall_back else None,
    )
