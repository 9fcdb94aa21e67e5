"""The batch adapter against a local stand-in of OpenAI's Batch API."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from lm_mixup.errors import BudgetError, InputError, ProviderError
from lm_mixup.ledger import Budget, Ledger, Price
from lm_mixup.llm.connect import connect
from lm_mixup.llm.openai_batch import OpenAIBatch
from lm_mixup.ports import LLM, Completion, Prompt
from lm_mixup.records import Failure
from tests.servers.launch import ROOT, serving


def prompts(count: int) -> list[Prompt]:
    return [Prompt(str(i), ({"role": "user", "content": f"item {i} é"},), max_tokens=60) for i in range(count)]


def batch_server(*arguments: str):
    return serving(*arguments, module="batch_server")


def model(server, ledger, **settings) -> OpenAIBatch:
    return OpenAIBatch("m", server.url, "sk-test-0123456789", ledger=ledger, poll_s=0.02, **settings)


def complete(llm, asked):
    return asyncio.run(llm.complete(asked))


def test_answers_come_in_order_from_several_batches_and_are_never_asked_again(tmp_path):
    with batch_server() as server, Ledger(tmp_path / "l.sqlite") as ledger:
        llm = model(server, ledger, max_requests=30)
        assert isinstance(llm, LLM)
        twice = [*prompts(70), *prompts(5)]
        answers = complete(llm, twice)
        assert [a.id for a in answers] == [p.id for p in twice]
        assert all(isinstance(a, Completion) and a.text.endswith(f"item {a.id} é") for a in answers)
        assert server.stats()["batches"] == 3
        assert complete(llm, twice) == answers
        assert complete(model(server, ledger, offline=True), twice) == answers
        assert server.stats()["requests"] == ledger.usage().attempts == 70
        one_by_one = connect(f"openai:m@{server.url}", ledger=ledger, offline=True)
        assert complete(one_by_one, twice) == answers


def test_what_failed_in_a_batch_goes_into_the_next(tmp_path):
    with (
        batch_server("--fail", "0.2", "--expire", "0.15", "--drop", "0.1") as server,
        Ledger(tmp_path / "l.sqlite") as ledger,
    ):
        answers = complete(model(server, ledger, max_attempts=20), prompts(80))
        assert all(isinstance(a, Completion) for a in answers)
        outcomes = ledger.usage().outcomes
        assert outcomes["answer"] == 80
        assert {"http-500", "batch-expired", "missing-from-batch"} <= set(outcomes)
        assert ledger.usage().attempts == server.stats()["requests"]


def test_what_fails_for_good_is_a_failure_with_its_reason(tmp_path):
    with batch_server("--fail", "1") as server, Ledger(tmp_path / "l.sqlite") as ledger:
        answers = complete(model(server, ledger, max_attempts=2), prompts(3))
        assert [(a.id, a.reason) for a in answers if isinstance(a, Failure)] == [(str(i), "http-500") for i in range(3)]
        assert server.stats()["batches"] == 2


def test_a_lost_answer_to_create_makes_no_second_batch(tmp_path):
    with batch_server("--lose-create") as server, Ledger(tmp_path / "l.sqlite") as ledger:
        assert all(isinstance(a, Completion) for a in complete(model(server, ledger), prompts(10)))
        assert (server.stats()["batches"], server.stats()["requests"]) == (1, 10)


def test_a_batch_that_is_refused_as_a_whole_ends_the_run(tmp_path):
    with batch_server("--reject") as server, Ledger(tmp_path / "l.sqlite") as ledger:
        with pytest.raises(ProviderError, match="a bad line"):
            complete(model(server, ledger), prompts(3))
        assert ledger.spent().tokens == 0


def test_a_server_without_a_batch_endpoint_is_told(tmp_path):
    with (
        serving() as server,
        Ledger(tmp_path / "l.sqlite") as ledger,
        pytest.raises(ProviderError, match="/files"),
    ):
        complete(model(server, ledger), prompts(1))


def test_a_ledger_is_needed():
    with pytest.raises(InputError, match="ledger"):
        OpenAIBatch("m", "http://localhost:1/v1")


RUNNER = """
    import asyncio, sys
    from lm_mixup.ledger import Ledger
    from lm_mixup.llm.openai_batch import OpenAIBatch
    from tests.llm.test_openai_batch import prompts

    with Ledger(sys.argv[2]) as ledger:
        llm = OpenAIBatch("m", sys.argv[1], ledger=ledger, poll_s=0.05)
        answers = asyncio.run(llm.complete(prompts(40)))
        print(sum(type(a).__name__ == "Completion" for a in answers), flush=True)
"""


def runner(server, path):
    command = [sys.executable, "-c", textwrap.dedent(RUNNER), server.url, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def test_a_killed_process_is_followed_by_one_that_fetches_what_was_submitted(tmp_path):
    path = tmp_path / "l.sqlite"
    with batch_server("--after", "20") as server:
        first = runner(server, path)
        wait_for(lambda: server.stats()["batches"] == 1)
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
        with Ledger(path) as ledger:  # no cap was set, and what is at the provider counts all the same
            at_worst = ledger.spent()
        assert runner(server, path).communicate(timeout=60)[0].strip() == "40"
        assert (server.stats()["batches"], server.stats()["requests"]) == (1, 40)
        with Ledger(path) as ledger:
            assert ledger.spent().requests == at_worst.requests == 40
            assert ledger.spent().tokens == server.stats()["tokens"] < at_worst.tokens


def test_a_thousand_answers_are_kept_together_and_within_a_cap_reserved_together(tmp_path):
    """Each waits for a commit, 40 ms apart; a batch may hold 50,000."""
    with batch_server() as server, Ledger(tmp_path / "l.sqlite") as ledger:
        llm = model(server, ledger, budget=Budget(max_tokens=10**7))
        begin = time.monotonic()
        assert all(isinstance(a, Completion) for a in complete(llm, prompts(1000)))
        assert time.monotonic() - begin < 20  # one by one: 80
        assert ledger.spent().requests == server.stats()["requests"] == 1000


def test_what_a_killed_process_left_with_failures_in_it_is_fetched_and_sent_again(tmp_path):
    path = tmp_path / "l.sqlite"
    with batch_server("--after", "20", "--fail", "0.2", "--expire", "0.2") as server:
        first = runner(server, path)
        wait_for(lambda: server.stats()["batches"] == 1)
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
        with Ledger(path) as ledger:
            answers = complete(model(server, ledger, max_attempts=20), prompts(40))
            assert all(isinstance(a, Completion) for a in answers)
            usage = ledger.usage()
        seen = server.stats()["seen"]
    assert (len(seen), usage.answers) == (40, 40)
    assert usage.attempts == sum(seen.values()) > 40
    assert {"answer", "http-500", "batch-expired"} == set(usage.outcomes)


def test_a_batch_that_the_endpoint_does_not_know_is_not_sent_again_but_may_be_asked_one_by_one(tmp_path):
    path = tmp_path / "l.sqlite"
    with batch_server("--after", "1000") as server:
        first = runner(server, path)
        with Ledger(path) as ledger:  # until its id is written down
            wait_for(lambda: any(batch.id for batch in ledger.batches.open("openai:m", server.url)))
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    with batch_server("--port", str(server.port)) as server, Ledger(path) as ledger:
        with pytest.raises(ProviderError, match="openai:MODEL in place of openai-batch:MODEL"):
            complete(model(server, ledger), prompts(40))
        assert server.stats()["batches"] == 0
    with serving() as server, Ledger(path) as ledger:
        answers = complete(connect(f"openai:m@{server.url}", ledger=ledger), prompts(40))
        assert all(isinstance(a, Completion) for a in answers)


def test_two_processes_submit_each_prompt_once(tmp_path):
    path = tmp_path / "l.sqlite"
    with batch_server("--after", "5") as server:
        both = [runner(server, path) for _ in range(2)]
        assert [p.communicate(timeout=60)[0].strip() for p in both] == ["40", "40"]
        assert server.stats()["requests"] == 40


def test_a_cap_is_kept_and_what_it_allows_is_answered(tmp_path):
    path = tmp_path / "l.sqlite"
    with batch_server() as server, Ledger(path) as ledger:
        capped = model(server, ledger, budget=Budget(max_tokens=3000), price=Price(1.0, 2.0))
        with pytest.raises(BudgetError, match="--max-tokens 3,000"):
            complete(capped, prompts(60))
        assert 0 < server.stats()["tokens"] <= ledger.spent().tokens <= 3000
        assert ledger.prices() == [("openai:m", Price(1.0, 2.0))]
        assert all(isinstance(a, Completion) for a in complete(model(server, ledger), prompts(60)))
        assert server.stats()["requests"] == 60
