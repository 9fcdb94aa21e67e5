"""Caps are never exceeded: under faults, with two processes, through kills; and what is not known is not nothing."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from lm_mixup.errors import BudgetError, InputError
from lm_mixup.ledger import Answer, Attempt, Budget, Ledger, Price, Request, Reservation
from lm_mixup.llm.batches import Generated, complete_in_batches
from lm_mixup.llm.limits import Backoff
from lm_mixup.llm.openai_compatible import OpenAICompatible
from lm_mixup.ports import Completion, Prompt
from tests.servers.launch import ROOT, serving

PRICE = Price(1000.0, 3000.0)  # dollars per million tokens: small numbers of tokens make whole dollars
FAST = {"backoff": Backoff(0.01, 0.05, random.Random(1)), "timeout_s": 0.4}
FAULTS = "http-429=0.05,http-500=0.04,reset=0.04,truncated=0.04,html=0.02,hang=0.02"


def prompts(count: int) -> list[Prompt]:
    return [Prompt(str(i), ({"role": "user", "content": f"item {i}"},), max_tokens=40) for i in range(count)]


def model(server, ledger, **settings) -> OpenAICompatible:
    return OpenAICompatible("m", server.url, ledger=ledger, **({"price": PRICE} | FAST | settings))


def complete(llm, asked):
    return asyncio.run(llm.complete(asked))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


def request(text: str) -> Request:
    return Request.of("m", Prompt("x", ({"role": "user", "content": text},)))


# ---- the account --------------------------------------------------------------------------------------------------


async def reserve(ledger, tokens, budget, key="k"):
    return await ledger.reserve(key, Reservation(tokens, PRICE.usd(tokens, 0)), budget)


def test_an_answer_turns_its_worst_case_into_what_it_cost(path):
    async def work(ledger):
        reserved = await reserve(ledger, 100, Budget(max_tokens=150))
        before = ledger.spent()
        await ledger.record(request("a"), Answer("x", "stop", 10, 5, 0.025), reserved)
        return before, ledger.spent()

    with Ledger(path) as ledger:
        before, after = asyncio.run(work(ledger))
    assert (before.requests, before.tokens, before.usd) == (1, 100, pytest.approx(0.1))
    assert (after.requests, after.tokens, after.usd) == (1, 15, pytest.approx(0.025))


@pytest.mark.parametrize(("billed", "tokens"), [(True, 100), (False, 0)])
def test_a_failure_costs_nothing_or_its_worst_case(path, billed, tokens):
    async def work(ledger):
        reserved = await reserve(ledger, 100, Budget(max_tokens=150))
        await ledger.record_failure(request("a"), Attempt("timeout", billed=billed), reserved)
        return ledger.spent()

    with Ledger(path) as ledger:
        spent = asyncio.run(work(ledger))
    assert (spent.requests, spent.tokens) == (1, tokens)


def test_an_answer_without_token_counts_costs_its_worst_case(path):
    async def work(ledger):
        reserved = await reserve(ledger, 100, Budget(max_tokens=150))
        await ledger.record(request("a"), Answer("x"), reserved)
        return ledger.spent()

    with Ledger(path) as ledger:
        assert asyncio.run(work(ledger)).tokens == 100


def test_a_refusal_says_whether_waiting_may_help(path):
    async def work(one, two):
        cap = Budget(max_tokens=150)
        first = await reserve(one, 100, cap)
        mine = await reserve(one, 100, cap)  # what is on its way may cost less than 100
        theirs = await reserve(two, 100, cap)
        too_large = await reserve(two, 200, cap)
        one.refund(first)
        return mine, theirs, too_large, await reserve(two, 150, cap)

    with Ledger(path) as one, Ledger(path) as two:
        mine, theirs, too_large, granted = asyncio.run(work(one, two))
    assert (mine, theirs, too_large) == (True, True, False)
    assert isinstance(granted, Reservation)


def test_what_was_on_its_way_when_the_ledger_was_closed_stays_charged(path):
    with Ledger(path) as ledger:
        asyncio.run(reserve(ledger, 100, Budget(max_tokens=150)))
    with Ledger(path) as ledger:
        assert ledger.spent().tokens == 100
        assert ledger.usage().outcomes == {"cut-off-on-the-way": 1}


# ---- over the wire ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(max_requests=25), "--max-requests 25"),
        (Budget(max_tokens=9000), "--max-tokens 9,000"),
        (Budget(max_usd=12.0), r"--max-usd 12: \$"),
    ],
)
def test_no_cap_is_exceeded_under_faults(path, budget, said):
    with serving("--latency", "0:0.03", "--faults", FAULTS) as server, Ledger(path) as ledger:
        with pytest.raises(BudgetError, match=said) as caught:
            complete(model(server, ledger, budget=budget), prompts(400))
        assert caught.value.exit_code == 6
        stats, spent, usage = server.stats(), ledger.spent(), ledger.usage()
        assert spent.requests == usage.attempts
        # on a busy machine one may time out before the server has read it
        assert 0 <= spent.requests - stats["requests"] <= usage.outcomes.get("timeout", 0)
        assert stats["worked_tokens"] <= spent.tokens
        assert budget.allows(spent.requests, spent.tokens, spent.usd)
        assert ledger.usage().answers > 5
        # at least so far that not one more worst case fits
        worst = 2 * 40 + 400
        assert not budget.allows(spent.requests + 1, spent.tokens + worst, spent.usd + worst * 3e-3)
        kept = ledger.usage().answers
        higher = complete(model(server, ledger, max_attempts=30), prompts(400))
        assert all(isinstance(a, Completion) for a in higher)
        assert ledger.usage().answers == 400 > kept


RUNNER = """
    import asyncio, sys
    from lm_mixup.errors import BudgetError
    from lm_mixup.ledger import Budget, Ledger
    from tests.test_budget import complete, model, prompts

    class Server:
        url = sys.argv[1]

    with Ledger(sys.argv[2]) as ledger:
        try:
            budget = Budget(**{sys.argv[3]: float(sys.argv[4])})
            complete(model(Server, ledger, concurrency=8, budget=budget), prompts(3000))
        except BudgetError as error:
            print(error.exit_code, flush=True)
"""


def runner(server, path, name, cap):
    command = [sys.executable, "-c", textwrap.dedent(RUNNER), server.url, str(path), name, str(cap)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_two_processes_share_one_cap_and_one_may_be_killed(path):
    cap = 16_000
    with serving("--latency", "0.02:0.05", "--faults", "reset=0.05,http-429=0.05") as server:
        one, two = (runner(server, path, "max_tokens", cap) for _ in range(2))
        deadline = time.monotonic() + 30
        while server.requests < 60:
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.02)
        os.kill(one.pid, signal.SIGKILL)
        one.communicate()
        assert two.communicate(timeout=60)[0].strip() == "6"
        with Ledger(path) as ledger:
            spent = ledger.spent()
        assert server.stats()["worked_tokens"] <= spent.tokens <= cap
        assert server.requests <= spent.requests
        assert spent.tokens > 0.8 * cap


@pytest.mark.parametrize(("name", "cap"), [("max_requests", 60), ("max_tokens", 6000), ("max_usd", 10.0)])
def test_two_processes_keep_within_one_cap_of_any_kind_under_faults(path, name, cap):
    with serving("--latency", "0.02:0.05", "--faults", FAULTS) as server:
        both = [runner(server, path, name, cap) for _ in range(2)]
        assert [process.communicate(timeout=120)[0].strip() for process in both] == ["6", "6"]
        with Ledger(path) as ledger:
            spent, usage = ledger.spent(), ledger.usage()
        assert Budget(**{name: cap}).allows(spent.requests, spent.tokens, spent.usd)
        assert server.requests <= spent.requests == usage.attempts
        assert server.stats()["worked_tokens"] <= spent.tokens
        assert usage.answers > 5


def test_a_cancelled_wait_gives_its_reservation_back(path):
    async def work(llm):
        task = asyncio.create_task(llm.complete(prompts(30)))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.2)

    with serving("--latency", "5") as server, Ledger(path) as ledger:
        llm = model(server, ledger, concurrency=2, budget=Budget(max_tokens=10**6), timeout_s=30)
        asyncio.run(work(llm))
        assert server.requests == ledger.spent().requests == 2


# ---- prices -------------------------------------------------------------------------------------------------------


def test_a_cap_in_dollars_needs_a_price(path):
    with Ledger(path) as ledger, pytest.raises(InputError, match=r"price_in"):
        OpenAICompatible("m", "http://localhost:1/v1", ledger=ledger, budget=Budget(max_usd=1.0))


def test_a_cap_needs_a_ledger():
    with pytest.raises(InputError, match="ledger"):
        OpenAICompatible("m", "http://localhost:1/v1", budget=Budget(max_requests=1))


def test_answers_of_unknown_price_bar_a_cap_in_dollars(path):
    with serving() as server, Ledger(path) as ledger:
        complete(model(server, ledger, price=None), prompts(3))
        with pytest.raises(InputError, match="3 earlier answers"):
            model(server, ledger, budget=Budget(max_usd=100.0))


def test_the_price_and_its_source_are_kept(path):
    with serving() as server, Ledger(path) as ledger:
        complete(model(server, ledger, price=Price(1.0, 2.0, "genai-prices 1.2.3")), prompts(3))
        assert ledger.prices() == [("openai:m", Price(1.0, 2.0, "genai-prices 1.2.3"))]


def test_local_models_count_tokens_and_requests_and_cost_nothing(path):
    def generate(batch):
        return [Generated("yes", "stop", 20, 5) for _ in batch]

    async def work(ledger):
        budget = Budget(max_usd=0.0, max_requests=4)
        return await complete_in_batches(
            prompts(10), generate, model="local", ledger=ledger, batch_size=1, budget=budget
        )

    with Ledger(path) as ledger:
        with pytest.raises(BudgetError, match="--max-requests 4"):
            asyncio.run(work(ledger))
        spent = ledger.spent()
    assert (spent.requests, spent.tokens, spent.usd) == (4, 100, 0.0)
