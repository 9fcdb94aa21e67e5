"""From a word on the command line to a language model: ``openai:MODEL@URL`` and its relatives."""

from __future__ import annotations

from pathlib import Path

from lm_mixup.errors import RecipeError
from lm_mixup.ledger import Budget, Ledger
from lm_mixup.ports import LLM

FORMS = (
    "openai:MODEL@URL (any OpenAI-compatible endpoint; without @URL: OpenAI's own), openai-batch:MODEL@URL (its batch "
    "endpoint), openvino:PATH_OR_NAME, "
    "transformers:PATH, llama-cpp:PATH_OR_NAME, scripted:FILE"
)


_NO_CAPS = Budget()


def connect(
    spec: str,
    *,
    api_key: str | None = None,
    ledger: Ledger | None = None,
    cache_dir: Path | None = None,
    offline: bool = False,
    concurrency: int = 64,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    timeout_s: float = 120.0,
    max_attempts: int = 8,
    batch_size: int = 1,
    lookup: int = 0,
    context_tokens: int | None = None,
    budget: Budget = _NO_CAPS,
    price_in: float | None = None,
    price_out: float | None = None,
) -> LLM:
    """The model that ``spec`` names (see :data:`FORMS`). MODEL may hold ``:``, ``/`` and ``@``.

    ``api_key`` is for endpoints; ``cache_dir`` is where named models are kept (a name without it is an error);
    ``concurrency``, the limits a minute, ``timeout_s`` and ``max_attempts`` are for endpoints, ``batch_size`` for local
    models; ``lookup`` is how many tokens openvino guesses ahead where it answers several prompts at a time
    (:mod:`lm_mixup.llm.openvino_slots`); ``offline`` answers from the ledger alone (endpoints) and fetches nothing.
    ``context_tokens`` is the model's window, where it is known better than the model itself says. ``budget`` caps what
    may be spent; ``price_in`` and ``price_out`` are US dollars per million tokens of an endpoint's model (None: looked
    up, see :mod:`lm_mixup.llm.prices`).

    Raises :class:`RecipeError` for a spec that cannot be read, and what the adapter raises.
    """
    kind, colon, rest = spec.partition(":")
    if not colon or not rest:
        raise RecipeError(f"a language model: expected {FORMS}; got {_safe(spec)!r}")
    if kind in ("openai", "openai-batch"):
        from lm_mixup.llm.openai_compatible import OPENAI_URL, OpenAICompatible
        from lm_mixup.llm.prices import price_of

        model, url = split_endpoint(rest)
        url = url or OPENAI_URL
        price = None if offline else price_of(model, url, price_in, price_out)
        if kind == "openai-batch":
            from lm_mixup.llm.openai_batch import OpenAIBatch

            return OpenAIBatch(
                model, url, api_key, ledger=ledger, offline=offline, price=price, budget=budget, timeout_s=timeout_s
            )
        return OpenAICompatible(
            model,
            url,
            api_key,
            ledger=ledger,
            offline=offline,
            concurrency=concurrency,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            timeout_s=timeout_s,
            deadline_s=max(900.0, 2 * timeout_s),
            max_attempts=max_attempts,
            context_tokens=context_tokens,
            price=price,
            budget=budget,
        )
    if kind == "openvino":
        path = _model_path(rest, cache_dir, offline)
        if batch_size > 1:
            from lm_mixup.llm.openvino_slots import OpenVINOSlots

            return OpenVINOSlots(
                path, ledger=ledger, slots=batch_size, lookup=lookup, context_tokens=context_tokens, budget=budget
            )
        from lm_mixup.llm.openvino import OpenVINO

        return OpenVINO(path, ledger=ledger, context_tokens=context_tokens, budget=budget)
    if kind == "transformers":
        from lm_mixup.llm.transformers import Transformers

        return Transformers(rest, ledger=ledger, batch_size=batch_size, context_tokens=context_tokens, budget=budget)
    if kind == "llama-cpp":
        from lm_mixup.llm.llama_cpp import LlamaCpp

        path = _model_path(rest, cache_dir, offline)
        return LlamaCpp(path, ledger=ledger, context_tokens=context_tokens, budget=budget)
    if kind == "scripted":
        from lm_mixup.llm.scripted import Scripted

        return Scripted.from_file(rest)
    raise RecipeError(f"a language model: unknown kind {kind!r}; expected {FORMS}")


def split_endpoint(text: str) -> tuple[str, str]:
    """``MODEL@URL`` as its two parts; the URL is "" where there is none. The first ``@http`` divides."""
    for scheme in ("@http://", "@https://"):
        model, found, rest = text.partition(scheme)
        if found:
            return model, scheme.removeprefix("@") + rest
    return text, ""


def _model_path(name_or_path: str, cache_dir: Path | None, offline: bool) -> Path:
    if Path(name_or_path).exists() or cache_dir is None:
        return Path(name_or_path)
    from lm_mixup.models import resolve

    return resolve(name_or_path, cache_dir=cache_dir, offline=offline)


def _safe(spec: str) -> str:
    """A spec as it may be repeated in an error: without what could be a login in an address."""
    return spec.partition("@")[0]
