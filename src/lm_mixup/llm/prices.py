"""What a model costs: what the user says, else a public price list, else unknown. Unknown is never nothing."""

from __future__ import annotations

import importlib.metadata
from urllib.parse import urlsplit

from lm_mixup.errors import RecipeError
from lm_mixup.ledger import Price


def price_of(model: str, url: str, price_in: float | None, price_out: float | None) -> Price | None:
    """The price of ``model`` at the endpoint ``url``; ``price_in`` and ``price_out`` (US dollars a million tokens) win.

    None where neither the user nor the list knows. Raises :class:`RecipeError` where only one of the two is given.
    """
    if price_in is not None and price_out is not None:
        return Price(price_in, price_out, "recipe")
    if price_in is not None or price_out is not None:
        raise RecipeError("llm.price_in and llm.price_out: expected both or none, got one")
    return listed_price(model, url)


def listed_price(model: str, url: str) -> Price | None:
    """The price that ``genai-prices`` lists for the model at the provider with this address, if it is installed.

    A model behind an address that the list does not know (a server of one's own) has no known price, whatever its name.
    A price that depends on the prompt's length is taken at its highest.
    """
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    million = 1_000_000
    if not urlsplit(url).hostname:
        return None
    try:
        told = calc_price(Usage(input_tokens=million, output_tokens=million), model, provider_api_url=url)
    except LookupError:
        return None
    if told.input_price is None or told.output_price is None:
        return None
    version = importlib.metadata.version("genai-prices")
    return Price(float(told.input_price), float(told.output_price), f"genai-prices {version}")
