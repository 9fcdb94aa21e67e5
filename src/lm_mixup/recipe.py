"""A recipe: every setting of a run, with its default, its meaning and where the default comes from.

Recipes are YAML. An unknown key is an error that names the nearest right one. The defaults' sources are given as in
the method: [P] the paper, [R] its released code, [D] DS2, [O] our own choice.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lm_mixup.errors import RecipeError
from lm_mixup.task_types import TEMPLATES


class Section(BaseModel):
    """Settings of one room: frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True)


R = TypeVar("R", bound=Section)


class PoolSettings(Section):
    """How pools are read."""

    format: Literal["messages", "alpaca", "prompt-completion", "sharegpt"] | None = Field(
        None, description="Format of the pools' rows: messages, alpaca, prompt-completion or sharegpt; empty: detected."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Column names that differ, e.g. {prompt: question, completion: reply, id: uid}.",
    )
    rating_column: str | None = Field(
        None, description="A column that already holds ratings 0-5; such rows are not rated."
    )
    detect_language: bool = Field(True, description="Detect each row's language (kept as a column; clusters go by it).")
    limit: int | None = Field(None, ge=1, description="Read at most this many good rows.")
    strict: bool = Field(False, description="Stop at the first bad row instead of putting it into quarantine.")


class EmbedSettings(Section):
    """The embedder of the run."""

    model: str = Field(
        "all-minilm-l6-v2",
        description="all-minilm-l6-v2 (embedded), a folder with it, hashing (tests only), transformers:NAME_OR_PATH, "
        "or openai:MODEL@URL.",
    )
    dim: int | None = Field(
        None, ge=1, description="Length of the vectors of an endpoint's model; needed for openai: alone."
    )
    pooling: Literal["mean", "cls"] = Field("mean", description="Of a transformers: model: mean, or cls (BGE).")
    max_windows: int = Field(
        4,
        ge=1,
        description="A text longer than the model's window is read through this many windows, spread over it. [O]",
    )
    threads: int | None = Field(None, ge=1, description="Threads of the embedder; empty: all cores.")


class NeighborSettings(Section):
    """The k-NN graph of the run, which curation, clustering and selection share."""

    k: int = Field(
        24,
        ge=2,
        description="Neighbours a row; the vote of curation is taken over 90 % of the rows, so more than its k. [O]",
    )
    exact_below: int = Field(
        50_000, ge=1, description="Exact search below so many rows, an inverted file from there on. [O]"
    )
    error: float = Field(
        0.004,
        ge=0,
        description="The inverted file searches until the mean cosine of a row's 15 nearest is off by no more than this, as a standard deviation over sampled rows. [O]",
    )


class RateSettings(Section):
    """Step 1: rate every sample 0-5."""

    rater: Literal["learned", "judge", "cascade", "knn-bayes"] = Field(
        "learned",
        description="learned (embedded, no key), judge (an LLM; the paper's way, needs rate.llm or llm.model), cascade (a "
        "judge for a part of the pool, what it teaches for the rest) or knn-bayes (neighbours in a rated library, needs "
        "rate.library).",
    )
    judge_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Of cascade: the share of the pool's rows that the judge is asked about, at least 50 rows. [O]",
    )
    head: str = Field("gpt-4o-mini", description="Which head of the learned rater: whose ratings it imitates. [O]")
    weights: str | None = Field(
        None, description="Weights of your own for the learned rater (lm-mixup rater train); empty: those that ship."
    )
    library: str | None = Field(None, description="Folder of a rated library (lm-mixup library build), for knn-bayes.")
    llm: str | None = Field(None, description="The judge's model, as in llm.model; empty: llm.model.")
    judges: list[str] = Field(
        default_factory=list,
        description="Several judges' models instead of one, as in llm.model: their mean counts, their agreement is kept.",
    )
    draws: int = Field(1, ge=1, description="Ask a judge so often and take the mean; needs a temperature above 0. [O]")
    temperature: float = Field(0.0, ge=0, description="Of a judge; 0 is greedy. [D]")
    expected: bool = Field(
        False, description="The expected rating by a judge's token probabilities, where the model offers them. [O]"
    )


class CurateSettings(Section):
    """Step 2: correct ratings that their neighbours contradict (DS2), and split high from low."""

    method: Literal["ds2", "none"] = Field("ds2", description="ds2, or none to take the ratings as they are.")
    neighbors: int = Field(10, ge=2, description="k of the vote: the row itself and k - 1 neighbours. [D]")
    rounds: int = Field(51, ge=1, description="Bootstrap rounds of the detection. [D]")
    sample: float = Field(0.9, gt=0, le=1, description="Share of the rows in a bootstrap round. [D]")
    min_confidence: float = Field(
        0.5, ge=0, le=1, description="A flagged rating is replaced from this confidence on. [D]"
    )
    most_wrong: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Where more than this share of the ratings seems wrong, neighbours tell nothing of each other and none "
        "is flagged; 1: flag regardless. [O]",
    )
    high_rating: float = Field(4.0, ge=0, le=5, description="A sample is high from this class (rounded rating) on. [R]")
    high_share: float | None = Field(
        None, gt=0, lt=1, description="Instead of high_rating: the best-rated share of the pool is high, e.g. 0.1. [O]"
    )


class ClusterSettings(Section):
    """Step 4: group the low samples by embedding within a size band."""

    min_size: int = Field(2, ge=1, description="Smallest cluster. [R]")
    max_size: int = Field(5, ge=1, description="Largest cluster. [R]")
    mean_size: float = Field(3.0, ge=1, description="Mean size aimed at. [R]")
    floor: float | None = Field(
        0.5,
        ge=-1,
        le=1,
        description="Leave a row out (no-near-neighbour) where its cosine to its best cluster is below this; empty: place "
        "every row. [O]",
    )
    alone: bool = Field(
        False,
        description="Pass a row below the floor on alone, as a cluster of one to be rewritten, instead of leaving it out; "
        "to select what comes of it, set select.min_sources to 1. [O]",
    )
    across_sources: bool = Field(False, description="Let clusters mix sources. [R: no]")
    across_languages: bool = Field(False, description="Let clusters mix languages. [O]")

    @model_validator(mode="after")
    def _band(self) -> ClusterSettings:
        if not self.min_size <= self.mean_size <= self.max_size:
            raise ValueError(
                f"expected min_size <= mean_size <= max_size, got {self.min_size}, {self.mean_size:g}, {self.max_size}"
            )
        return self


class DistillSettings(Section):
    """Step 5: distil every cluster into one sample."""

    distiller: Literal["extractive", "trained", "lm"] = Field(
        "trained",
        description="trained (embedded: a small model that lm-mixup train made; its answer is taken where it holds as much as "
        "extraction does and adds nothing, extraction's elsewhere), extractive (no model: quicker) or lm (a language model; "
        "needs distill.llm or llm.model).",
    )
    model: str = Field(
        "lm-mixup-135m",
        description="Of a trained distiller: lm-mixup-135m, which ships, or a folder of lm-mixup train. [O]",
    )
    model_from: float = Field(
        2.0,
        ge=0,
        le=5,
        description="Of a trained distiller: ask the model only about clusters whose best row is rated this or better, since "
        "others hardly reach the train set; extraction writes the rest. 0: about all in its range. [O]",
    )
    model_alike: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Of a trained distiller: ask the model only about clusters whose rows share so much of their words: "
        "variants of one thing, which is where it is better than extraction. 0: about all in its range. [O]",
    )
    style: Literal["fenced", "compact"] = Field(
        "fenced", description="How an lm distiller is asked: fenced, or compact, as trained models are. [O]"
    )
    llm: str | None = Field(None, description="The distilling model, as in llm.model; empty: llm.model.")
    max_new_tokens: int = Field(2400, ge=16, description="Longest answer of an lm distiller. [R]")
    max_input_tokens: int = Field(2400, ge=64, description="Longest input of an lm distiller. [R]")
    repetition_penalty: float = Field(1.05, gt=0, description="Of an lm distiller. [R]")
    fall_back: bool = Field(
        True, description="Where the model's answer has not the right form, take the extractive fusion. [O]"
    )
    templates: dict[str, str] = Field(
        default_factory=lambda: dict(TEMPLATES),
        description="User turns for task types whose form holds no question. [O]",
    )

    @field_validator("templates")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        merged = {**TEMPLATES, **value}
        for name, slot in (("tfq", "{statement}"), ("cs", "{category}"), ("para", "{topic}")):
            if slot not in merged[name]:
                raise ValueError(f"the template {name!r} must hold {slot}, got {merged[name]!r}")
        unknown = set(value) - set(TEMPLATES)
        if unknown:
            raise ValueError(f"no such template: {', '.join(sorted(unknown))}; there are {', '.join(TEMPLATES)}")
        return merged


class SelectSettings(Section):
    """Steps 7 and 8: order the candidates, and take the budget."""

    budget: int | str = Field(
        "3%",
        description="Size of the train set: rows (617), a share of the pool (3%), or tokens (200000 tokens; estimated as a "
        "quarter of the characters). [P: 10 K of 300 K]",
    )
    ratio: float = Field(0.5, ge=0, le=1, description="Share of distilled rows; the other side fills a shortfall. [P]")
    stratify: tuple[Literal["source", "task_type"], ...] = Field(
        (), description="Split the budget over these in proportion to the candidates, e.g. [source, task_type]. [O]"
    )
    method: Literal["rank", "coverage"] = Field(
        "rank",
        description="rank: the best-rated and rarest first; coverage: the rows that together lie nearest to all "
        "candidates, whatever their class. [O]",
    )
    neighbors: int = Field(15, ge=1, description="k of the long-tail score. [R]")
    order: Literal["class", "rating"] = Field(
        "class",
        description="Of rank: by class, then long-tail score, then rating (class, DS2's way), or by rating first. [D]",
    )
    duplicate_cosine: float | None = Field(
        0.98,
        ge=0,
        le=1,
        description="Of candidates nearer than this only the best stays; empty: only equal texts go. [O]",
    )

    @field_validator("budget")
    @classmethod
    def _readable(cls, value: int | str) -> int | str:
        parse_budget(value, 1)
        return value

    min_sources: int = Field(
        2, ge=1, description="A distillate made from fewer rows is no candidate: it would be a low row, polished. [O]"
    )


class LLMSettings(Section):
    """Language models over HTTP or on this machine. Keys come from the environment, never from a recipe."""

    model: str | None = Field(
        None, description="openai:MODEL@URL, openvino:NAME_OR_PATH, transformers:NAME_OR_PATH, ..."
    )
    concurrency: int = Field(64, ge=1, description="Requests in flight at most.")
    requests_per_minute: float | None = Field(
        None, gt=0, description="Requests sent a minute at most; empty: as many as the endpoint bears."
    )
    tokens_per_minute: float | None = Field(
        None, gt=0, description="Tokens a minute at most, in and out; empty: as many as the endpoint bears."
    )
    timeout_s: float = Field(120.0, gt=0, description="Deadline of one request, in seconds.")
    max_attempts: int = Field(6, ge=1, description="Attempts at one request before it is a failure.")
    batch_size: int = Field(
        1,
        ge=1,
        description="Prompts that a local model computes together. openvino: answers do not depend on it, on each core so "
        "many; transformers: above 1, wording may depend on the batch.",
    )
    context_tokens: int | None = Field(
        None, ge=64, description="The model's window, prompt and answer together; empty: what the model itself says."
    )
    price_in: float | None = Field(
        None, ge=0, description="US dollars per million prompt tokens; empty: a public price list, else unknown."
    )
    price_out: float | None = Field(
        None, ge=0, description="US dollars per million tokens of answers; empty: a public price list, else unknown."
    )
    max_usd: float | None = Field(None, ge=0, description="Cap on what the whole run may cost, in US dollars.")
    max_tokens: int | None = Field(None, ge=0, description="Cap on the tokens of the whole run, in and out.")
    max_requests: int | None = Field(None, ge=0, description="Cap on the requests of the whole run.")


class Recipe(Section):
    """All settings of a run."""

    version: Literal[1] = Field(1, description="Version of this format.")
    seed: int = Field(0, ge=0, description="Seed of everything that draws.")
    pool: PoolSettings = PoolSettings()
    embed: EmbedSettings = EmbedSettings()
    neighbors: NeighborSettings = NeighborSettings()
    rate: RateSettings = RateSettings()
    curate: CurateSettings = CurateSettings()
    cluster: ClusterSettings = ClusterSettings()
    distill: DistillSettings = DistillSettings()
    select: SelectSettings = SelectSettings()
    llm: LLMSettings = LLMSettings()


def parse_budget(value: int | str, rows: int) -> int:
    """A budget in rows: ``617``, ``"617"``, ``"3%"`` or ``"0.03"`` (a share, 0 < share < 1) of ``rows``; at least 1.

    ``"200000 tokens"`` is that number, and :func:`in_tokens` says so. Raises ValueError (a RecipeError of its recipe)
    if it is none of these.
    """
    text = str(value).strip()
    if in_tokens(text):
        text = text.removesuffix("tokens").strip()
        if text.isdecimal() and int(text) > 0:
            return int(text)
        text = ""
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
        elif text.isdecimal():
            share = 0.0
            if int(text) > 0:
                return int(text)
        else:
            share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(
            f"a budget is a number of rows (617), a share of the pool (3% or 0.03) or of tokens (200000 tokens), "
            f"got {value!r}"
        )
    return max(1, round(share * rows))


def in_tokens(value: int | str) -> bool:
    """Whether a budget is one in tokens."""
    return str(value).strip().endswith("tokens")


def load(path: Path | None = None, settings: Iterable[str] = (), overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe from a YAML file (None: the defaults), then ``settings`` (``"cluster.max_size=8"``), then ``overrides``.

    As :func:`read`.
    """
    return read(Recipe, path, settings, overrides)


def read(
    kind: type[R],
    path: Path | None = None,
    settings: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> R:
    """A recipe of any kind (of a run, of a training) from a YAML file, then ``settings``, then ``overrides``.

    ``overrides`` maps dotted names to values; None values are ignored. Raises RecipeError with the file, the key, what
    was expected, what was found, and the nearest right name.
    """
    values: dict[str, Any] = {}
    where = "the settings"
    if path is not None:
        where = str(path)
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RecipeError(f"{path}: no such recipe; lm-mixup init {path} writes one") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: no valid YAML: {error}") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise RecipeError(f"{path}: expected settings by name, got {type(loaded).__name__}; see lm-mixup init")
        values = loaded or {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set {setting}: expected SECTION.KEY=VALUE, e.g. --set cluster.max_size=8")
        try:
            _put(values, name.strip(), yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {setting}: the value is no valid YAML: {error}") from error
    for name, value in (overrides or {}).items():
        if value is not None:
            _put(values, name, value)
    _check_names(kind, values, where)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            lines.append(
                f"  {name or 'recipe'}: {problem['msg'].removeprefix('Value error, ')} (got {problem['input']!r})"
            )
        raise RecipeError(f"{where}: not a valid recipe:\n" + "\n".join(lines)) from None


def dump(recipe: Section) -> str:
    """The recipe as YAML, every setting spelled out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def commented(recipe: Section | None = None) -> str:
    """The recipe as YAML with what each setting means above it: what ``lm-mixup init`` writes."""
    recipe = recipe or Recipe()
    lines = ["# A recipe of lm-mixup. Defaults come from [P] the paper, [R] its code, [D] DS2, [O] this project.", ""]
    for name, info in type(recipe).model_fields.items():
        value = getattr(recipe, name)
        if isinstance(value, Section):
            lines += ["", f"# {(type(value).__doc__ or '').strip()}", f"{name}:"]
            for key, field in type(value).model_fields.items():
                lines += [f"  # {field.description}", *_entry(key, value.model_dump(mode="json")[key], "  ")]
        else:
            lines += [f"# {info.description}", *_entry(name, value, "")]
    return "\n".join(lines) + "\n"


def _entry(key: str, value: object, indent: str) -> list[str]:
    text = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=1000)
    return [indent + line for line in text.rstrip("\n").split("\n")]


def _put(values: dict[str, Any], name: str, value: object) -> None:
    *sections, key = name.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"{name}: {section!r} is no section")
        values = inner
    values[key] = value


def _check_names(kind: type[Section], values: Mapping[str, Any], where: str) -> None:
    for name, value in values.items():
        if name not in kind.model_fields:
            raise RecipeError(f"{where}: {name!r} is no setting{_nearest(kind, str(name))}")
        section = kind.model_fields[name].annotation
        if not (isinstance(section, type) and issubclass(section, Section)):
            continue
        if not isinstance(value, dict):
            raise RecipeError(f"{where}: {name!r} is a section: expected settings by name, got {value!r}")
        for key in value:
            if key not in section.model_fields:
                raise RecipeError(f"{where}: '{name}.{key}' is no setting{_nearest(kind, f'{name}.{key}')}")


def _nearest(kind: type[Section], name: str) -> str:
    known = []
    for section, info in kind.model_fields.items():
        known.append(section)
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            known += [f"{section}.{key}" for key in info.annotation.model_fields]
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not match:  # the right key in the wrong section, or without one
        match = [k for k in known if k.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    return f"; did you mean {match[0]!r}?" if match else "; lm-mixup init lists all settings"
