"""The adapter of OpenAI-compatible endpoints against a real local server: well behaved, and as bad as they come."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from lm_mixup.errors import InputError, ProviderError
from lm_mixup.ledger import Budget, Ledger, Price
from lm_mixup.llm.limits import Backoff
from lm_mixup.llm.lines import Lines
from lm_mixup.llm.openai_compatible import OpenAICompatible
from lm_mixup.llm.parsing import JUDGE_SCHEMA, parse_judgement
from lm_mixup.ports import LLM, Completion, Prompt
from lm_mixup.records import Failure
from tests.servers.launch import ROOT, serving

KEY = "sk-test-0123456789-not-a-real-key"
FAST = {"backoff": Backoff(0.01, 0.05, random.Random(1)), "timeout_s": 1.5}


@pytest.fixture(scope="module")
def server():
    with serving("--latency", "0:0.02", "--key", KEY) as running:
        yield running


def ask(text: str, id: str = "p", **settings) -> Prompt:
    return Prompt(id, ({"role": "user", "content": text},), **settings)


def model(server, **settings) -> OpenAICompatible:
    return OpenAICompatible("test-model", server.url, KEY, **(FAST | settings))


def complete(llm, prompts):
    return asyncio.run(llm.complete(prompts))


@pytest.mark.parametrize("stream", [False, True])
def test_answers_come_in_the_order_of_the_prompts(server, stream):
    llm = model(server, stream=stream)
    assert isinstance(llm, LLM)
    answers = complete(llm, [ask(f"question {stream} {i} é\n{{x}}", str(i)) for i in range(300)])
    assert [a.id for a in answers] == [str(i) for i in range(300)]
    assert all(isinstance(a, Completion) for a in answers)
    assert all(a.text.endswith(f"question {stream} {i} é\n{{x}}") for i, a in enumerate(answers))
    assert all(a.prompt_tokens and a.completion_tokens and a.finish_reason == "stop" for a in answers)


def test_no_prompts_no_requests(server):
    before = server.requests
    assert complete(model(server), []) == []
    assert server.requests == before


def test_the_limit_is_kept_and_reached():
    with serving("--latency", "0.05") as server:
        complete(model(server, concurrency=24), [ask(str(i)) for i in range(200)])
        assert server.stats()["most_in_flight"] == 24


def test_streaming_results_keeps_a_bounded_window(server):
    taken = 0

    def prompts():
        nonlocal taken
        for i in range(2000):
            taken += 1
            yield ask(f"window {i}", str(i))

    async def work():
        seen, most = 0, 0
        async for answer in model(server).stream(prompts(), window=50):
            assert answer.id == str(seen)
            seen += 1
            most = max(most, taken - seen)
            if seen == 400:
                break
        return most

    assert asyncio.run(work()) <= 50
    assert taken <= 500


def test_a_second_run_asks_nothing_and_says_the_same(server, tmp_path):
    prompts = [ask(f"ledger {i % 80}", str(i)) for i in range(100)]  # the last twenty repeat
    with Ledger(tmp_path / "l.sqlite") as ledger:
        before = server.requests
        first = complete(model(server, ledger=ledger), prompts)
        assert server.requests == before + 80
    with Ledger(tmp_path / "l.sqlite") as ledger:
        second = complete(model(server, ledger=ledger), prompts)
        offline = complete(model(server, ledger=ledger, offline=True), [*prompts, ask("never asked")])
        assert server.requests == before + 80
        assert ledger.usage().attempts == 80
    assert first == second == offline[:100]
    assert (offline[100].id, offline[100].reason) == ("p", "not-in-ledger")


RETRIED = ["http-429", "http-500", "http-503", "reset", "truncated", "html", "html-502", "empty", "no-choices", "array"]


@pytest.mark.parametrize("fault", [*RETRIED, "hang"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_passing_fault_is_survived(server, fault, stream, tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        before = server.requests
        (answer,) = complete(model(server, stream=stream, ledger=ledger), [ask(f"[[{fault}*2]] {stream}")])
        assert isinstance(answer, Completion), answer
        assert server.requests - before == ledger.usage().attempts == 3
        assert ledger.usage().outcomes["answer"] == 1


@pytest.mark.parametrize(("fault", "stream"), [("wrong-type", False), ("duplicate", False), ("duplicate", True)])
def test_harmless_oddities_are_no_faults(server, fault, stream):
    before = server.requests
    (answer,) = complete(model(server, stream=stream), [ask(f"[[{fault}]] {stream}")])
    assert isinstance(answer, Completion)
    assert server.requests - before == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("no-end", "cut-off"), ("wrong-type", "bad-body"), ("http-500", "http-500"), ("reset", "connection-lost")],
)
def test_a_lasting_fault_is_a_failure_with_its_reason(server, fault, reason, tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        llm = model(server, stream=True, ledger=ledger, max_attempts=3)
        bad, good = complete(llm, [ask(f"[[{fault}]] lasting", "bad"), ask("good", "good")])
        assert isinstance(bad, Failure)
        assert (bad.id, bad.reason) == ("bad", reason)
        assert isinstance(good, Completion)
        assert ledger.usage().attempts == 4
        assert ledger.usage().answers == 1


def test_a_prompt_has_a_deadline(server):
    began = time.monotonic()
    (answer,) = complete(model(server, timeout_s=0.2, deadline_s=0.5, max_attempts=100), [ask("[[hang]] deadline")])
    assert isinstance(answer, Failure)
    assert answer.reason == "timeout"
    assert time.monotonic() - began < 5


def test_retry_after_is_obeyed():
    with serving("--retry-after", "0.7") as server:
        began = time.monotonic()
        (answer,) = complete(model(server), [ask("[[http-429*1]] wait")])
        assert isinstance(answer, Completion)
        assert time.monotonic() - began >= 0.7


def test_too_many_at_once_finds_the_servers_level():
    with serving("--latency", "0.05", "--max-in-flight", "10", "--retry-after", "0") as server:
        llm = model(server, concurrency=64, max_attempts=100)
        answers = complete(llm, [ask(str(i)) for i in range(400)])
        assert all(isinstance(a, Completion) for a in answers)
        assert llm.concurrency.limit < 32
        assert server.requests < 400 * 1.5


def test_twenty_per_cent_faults_lose_and_double_nothing(tmp_path):
    shares = (
        "http-429=0.04,http-500=0.03,reset=0.03,truncated=0.02,html=0.02,html-502=0.02,hang=0.01,duplicate=0.01,"
        "twice=0.01,wrong-type=0.01"
    )
    with serving("--latency", "0:0.02", "--faults", shares) as server, Ledger(tmp_path / "l.sqlite") as ledger:
        llm = model(server, ledger=ledger, max_attempts=4)
        answers = complete(llm, [ask(f"storm {i}", str(i)) for i in range(1000)])
        assert [a.id for a in answers] == [str(i) for i in range(1000)]
        assert all(a.text.endswith(f"storm {i}") for i, a in enumerate(answers) if isinstance(a, Completion))
        failures = [a for a in answers if isinstance(a, Failure)]
        assert all(f.reason for f in failures)
        assert len(failures) < 20
        assert ledger.usage().answers == 1000 - len(failures)
        assert 0 <= unread(ledger.usage(), server) <= ledger.usage().outcomes.get("stale-answer", 0)


@pytest.mark.parametrize("fault", ["twice", "twice-late"])
def test_an_answer_that_comes_twice_is_never_taken_for_the_next_prompts(fault, tmp_path):
    """The second copy comes as the answer to whatever is asked next on that connection."""
    with (
        serving("--latency", "0.005:0.02", "--faults", f"{fault}=0.2") as server,
        Ledger(tmp_path / "l.sqlite") as ledger,
    ):
        answers = complete(model(server, ledger=ledger), [ask(f"twice <{i}>", str(i)) for i in range(400)])
        assert all(isinstance(a, Completion) for a in answers)
        assert all(f"<{i}>" in a.text for i, a in enumerate(answers))
        usage = ledger.usage()
        assert usage.answers == 400
        # a copy may come in before the request that it is taken for has left
        assert 0 <= unread(usage, server) <= usage.outcomes.get("stale-answer", 0), usage.outcomes


def unread(usage, server) -> int:
    """Attempts that were sent and that the server never counted."""
    return usage.attempts - usage.outcomes.get("no-connection", 0) - server.requests


def test_a_request_that_found_no_connection_in_time_was_not_sent_and_costs_nothing(server, tmp_path, monkeypatch):
    opened = []

    async def slowly(lines):
        opened.append(lines)
        await (asyncio.sleep(10) if len(opened) < 3 else asyncio.sleep(0))
        return await open_(lines)

    open_ = Lines.open
    monkeypatch.setattr(Lines, "open", slowly)
    before = server.requests
    with Ledger(tmp_path / "l.sqlite") as ledger:
        llm = model(server, ledger=ledger, timeout_s=0.2, budget=Budget(max_tokens=10**6))
        (answer,) = complete(llm, [ask("late")])
        assert isinstance(answer, Completion)
        usage = ledger.usage()
        assert dict(usage.outcomes) == {"answer": 1, "no-connection": 2}
        assert server.requests - before == 1
        assert ledger.spent().tokens == answer.prompt_tokens + answer.completion_tokens


@pytest.mark.parametrize(("concurrency", "more"), [(1, 1), (16, 16)])
def test_a_server_whose_answers_all_have_one_id_is_believed(concurrency, more):
    with serving("--id", "chatcmpl-1") as server:
        answers = complete(model(server, concurrency=concurrency), [ask(f"one id <{i}>") for i in range(100)])
        assert all(f"<{i}>" in a.text for i, a in enumerate(answers))
        assert server.requests <= 100 + more


def test_the_same_request_may_have_the_same_id(server):
    async def work():
        async with model(server, concurrency=1) as llm:
            return [await llm.complete([ask("cached")]) for _ in range(5)]

    before = server.requests
    answers = asyncio.run(work())
    assert len({a.text for (a,) in answers}) == 1
    assert server.requests - before == 5


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_key_ends_the_run_after_one_confirmation(server, stream):
    llm = OpenAICompatible("m", server.url, "sk-wrong-0987654321", stream=stream, **FAST)
    before = server.requests
    with pytest.raises(ProviderError, match="HTTP 401") as caught:
        complete(llm, [ask(f"{i}") for i in range(2000)])
    assert server.requests - before <= 64  # of 2000: a wave of 16, one that was held, and confirmations
    assert "sk-wrong-0987654321" not in str(caught.value)


@pytest.mark.parametrize("fault", ["http-404", "http-403", "http-302"])
def test_other_refusals_of_everything_end_the_run_too(server, fault):
    with pytest.raises(ProviderError, match=fault.removeprefix("http-")):
        complete(model(server), [ask(f"[[{fault}]] {i}") for i in range(100)])


def test_one_refused_prompt_among_good_ones_is_a_failure(server):
    answers = complete(model(server), [ask("[[http-403]] moderated", "m"), *(ask(f"fine {i}") for i in range(50))])
    assert (answers[0].id, answers[0].reason) == ("m", "http-403")
    assert all(isinstance(a, Completion) for a in answers[1:])


def test_a_server_that_is_not_there_ends_the_run(tmp_path):
    with serving() as server:
        gone = server.url
    llm = OpenAICompatible("m", gone, max_attempts=2, backoff=Backoff(0.01, 0.02))
    with pytest.raises(ProviderError, match="answers nothing"):
        complete(llm, [ask(str(i)) for i in range(100)])


def test_a_server_that_breaks_down_for_good_ends_the_run(server):
    with pytest.raises(ProviderError, match="answers nothing"):
        complete(model(server, max_attempts=2), [ask(f"[[http-500]] {i}") for i in range(100)])


def test_a_prompt_too_long_for_the_model_is_a_failure_of_its_own():
    with serving("--context-chars", "100") as server:
        long, short = complete(model(server), [ask("x" * 200, "long"), ask("short", "short")])
        assert (long.id, long.reason) == ("long", "context-length")
        assert isinstance(short, Completion)
        assert server.requests == 2


def test_the_schema_is_sent_and_falls_back_as_far_as_the_server_goes(tmp_path):
    prompts = [ask(f"Rate the sample above {i}", schema=JUDGE_SCHEMA, seed=1) for i in range(40)]
    with serving() as server:
        answers = complete(model(server), prompts)
        assert all(parse_judgement(a.text) and not a.details for a in answers)
    with serving("--refuse", "response_format/json_schema,seed") as server:
        llm = model(server)
        answers = complete(llm, prompts)
        assert all(parse_judgement(a.text) for a in answers)
        assert answers[0].details["left_out"] == ["json_schema", "seed"]
        before = server.requests
        assert all(isinstance(a, Completion) for a in complete(llm, prompts))
        assert server.requests - before == 40  # it has learnt
    with serving("--refuse", "response_format,max_tokens,temperature,stream_options") as server:
        (answer,) = complete(model(server, stream=True), prompts[:1])
        assert isinstance(answer, Completion)
        assert "max_completion_tokens" in answer.details["left_out"]


def test_a_length_limit_is_told(server):
    (answer,) = complete(model(server), [ask("word " * 100, max_tokens=5)])
    assert (answer.finish_reason, len(answer.text)) == ("length", 20)


def test_prices_are_known_or_unknown_and_never_nothing(server, tmp_path):
    with Ledger(tmp_path / "a.sqlite") as ledger:
        complete(model(server, ledger=ledger, price=Price(1.0, 2.0)), [ask("price")])
        usage = ledger.usage()
        assert usage.price_usd == pytest.approx((usage.prompt_tokens + 2 * usage.completion_tokens) / 1e6)
        assert usage.unknown_price == 0
    with Ledger(tmp_path / "b.sqlite") as ledger:
        complete(model(server, ledger=ledger), [ask("price")])
        assert ledger.usage().unknown_price == 1


def test_a_rate_per_minute_is_kept(server):
    began = time.monotonic()
    complete(model(server, requests_per_minute=1200), [ask(f"rate {i}") for i in range(41)])
    assert time.monotonic() - began >= 0.9  # 20 a second, a burst of one second's worth


def test_tokens_per_minute_are_kept_and_a_worst_case_that_did_not_come_is_given_back(server):
    began = time.monotonic()
    long = [ask(f"{i} " + "word " * 4000, max_tokens=16) for i in range(5)]  # 5,000 tokens each
    complete(model(server, tokens_per_minute=600_000), long)
    assert time.monotonic() - began >= 1.3  # 10,000 a second, a burst of one second's worth
    began = time.monotonic()
    short = [ask(f"short {i}", max_tokens=9000) for i in range(12)]  # at worst 108,000 tokens, and no more than 300
    complete(model(server, tokens_per_minute=600_000, concurrency=1), short)
    assert time.monotonic() - began < 5


def test_the_key_goes_nowhere_but_into_the_header(server, tmp_path, caplog, capfd):
    caplog.set_level("DEBUG")
    with Ledger(tmp_path / "l.sqlite") as ledger:
        llm = model(server, ledger=ledger, max_attempts=2)
        answers = complete(llm, [ask("[[echo-key]] tell me", "x"), ask("fine", "y")])
        assert isinstance(answers[0], Failure)
        assert "upstream said" in answers[0].detail
        assert KEY not in str(answers) + repr(llm) + llm.key
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes()
    out, err = capfd.readouterr()
    assert KEY not in out + err + caplog.text


@pytest.mark.parametrize(
    "url", ["http://me:secret@host/v1", "https://host/v1?key=secret", "ftp://host", "host:8000", "", "http://[bad"]
)
def test_addresses_that_cannot_be_used_are_refused_without_repeating_a_login(url):
    with pytest.raises(InputError) as caught:
        OpenAICompatible("m", url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-one two", "sk-one\nX-Header: y", "sk-é"])
def test_keys_that_no_header_can_hold_are_refused_without_repeating_them(key):
    with pytest.raises(InputError) as caught:
        OpenAICompatible("m", "http://host", key)
    assert key not in str(caught.value)


def test_the_key_of_results_names_the_model_and_no_address(server):
    one, two = OpenAICompatible("m", "http://a/v1", "k"), OpenAICompatible("m", "http://b/v1")
    assert one.key == two.key == "openai:m"
    assert OpenAICompatible("m", "http://a", extra_body={"top_k": 1}).key != one.key


def test_connections_are_kept_within_the_context(server):
    async def work():
        async with model(server) as llm:
            return await llm.complete([ask("a")]) + await llm.complete([ask("b")])

    assert all(isinstance(a, Completion) for a in asyncio.run(work()))


RUNNER = """
    import asyncio, sys
    from lm_mixup.ledger import Budget, Ledger, Price
    from lm_mixup.llm.openai_compatible import OpenAICompatible
    from lm_mixup.ports import Prompt

    url, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with Ledger(path) as ledger:
        llm = OpenAICompatible("m", url, ledger=ledger, concurrency=16)
        prompts = [Prompt(str(i), ({"role": "user", "content": f"item {i}"},)) for i in range(count)]
        answers = asyncio.run(llm.complete(prompts))
        print(sum(type(a).__name__ == "Completion" for a in answers), flush=True)
"""


def runner(server, path, count=600):
    command = [sys.executable, "-c", textwrap.dedent(RUNNER), server.url, str(path), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def wait_for(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def test_after_kill_9_no_more_is_asked_again_than_was_in_flight(tmp_path):
    """Killed again and again; every answer that had come in by then is kept, whether it was committed or not."""
    kills = 0
    with serving("--latency", "0.02:0.04", log=tmp_path / "log") as server:
        for wanted in (100, 250, 400):
            killed = runner(server, tmp_path / "l.sqlite")
            wait_for(lambda wanted=wanted: server.requests > wanted)
            os.kill(killed.pid, signal.SIGKILL)
            kills += killed.communicate()[0] == ""
        last = runner(server, tmp_path / "l.sqlite")
        assert last.communicate(timeout=60)[0].strip() == "600"
        asked = server.events("begin")
        with Ledger(tmp_path / "l.sqlite") as ledger:
            usage = ledger.usage()
    assert kills == 3
    assert len(asked) == usage.answers == 600
    repeats = sum(asked.values()) - len(asked)
    assert 0 < repeats <= kills * 16
    # one that was about to leave when its process was killed may not have reached the server
    assert sum(asked.values()) <= usage.attempts <= 600 + kills * 16


def test_two_processes_share_the_work_and_one_may_be_killed(tmp_path):
    with serving("--latency", "0.05:0.1", log=tmp_path / "log") as server:
        one, two = (runner(server, tmp_path / "l.sqlite", 600) for _ in range(2))
        wait_for(lambda: server.requests > 200)
        os.kill(one.pid, signal.SIGKILL)
        one.communicate()
        assert two.communicate(timeout=60)[0].strip() == "600"
        asked = server.events("begin")
        assert len(asked) == 600
        assert sum(asked.values()) - 600 <= 16
        with Ledger(tmp_path / "l.sqlite") as ledger:
            assert ledger.usage().answers == 600


def test_cancelling_gives_up_the_claims(server, tmp_path):
    async def work(ledger):
        task = asyncio.create_task(model(server, ledger=ledger, timeout_s=30).complete([ask("[[hang]] cancel me")]))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Ledger(tmp_path / "l.sqlite") as one, Ledger(tmp_path / "l.sqlite") as two:
        asyncio.run(work(one))
        (answer,) = complete(model(server, ledger=two, timeout_s=0.1, max_attempts=1), [ask("[[hang]] cancel me")])
        assert answer.reason == "timeout"  # it asked: nobody holds the claim


def test_the_log_of_the_server_is_one_json_object_a_line(tmp_path):
    with serving(log=tmp_path / "log") as server:
        complete(model(server), [ask("x")])
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["begin", "end"]
    assert lines[0]["hash"] == lines[1]["hash"]
