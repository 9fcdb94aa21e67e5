"""What a model costs: said, listed, or unknown."""

import pytest

from lm_mixup.errors import RecipeError
from lm_mixup.ledger import Price
from lm_mixup.llm.prices import listed_price, price_of

OPENAI = "https://api.openai.com/v1"


def test_what_the_recipe_says_wins():
    assert price_of("gpt-4o-mini", OPENAI, 0.0, 3.0) == Price(0.0, 3.0, "recipe")


@pytest.mark.parametrize("prices", [(1.0, None), (None, 1.0)])
def test_half_a_price_is_an_error(prices):
    with pytest.raises(RecipeError, match="both or none"):
        price_of("m", OPENAI, *prices)


def test_the_public_list_names_itself_and_its_version():
    pytest.importorskip("genai_prices", reason='needs the extra: pip install "lm-mixup[prices]"')
    price = listed_price("gpt-4o-mini", OPENAI)
    assert price is not None
    assert 0 < price.input_per_million < price.output_per_million
    assert price.source.startswith("genai-prices ")
    assert price.source[-1].isdigit()


@pytest.mark.parametrize(
    ("model", "url"),
    [("gpt-4o-mini", "http://localhost:8000/v1"), ("no-such-model", OPENAI), ("gpt-4o-mini", "not an address")],
)
def test_a_server_or_a_model_that_is_not_listed_has_no_known_price(model, url):
    assert listed_price(model, url) is None
