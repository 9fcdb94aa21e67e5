"""The ledger: exactly once, in groups, with several processes, through kills and full disks."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.errors import RunError, StorageError
from lm_mixup.ledger import Answer, Attempt, Ledger, Request
from lm_mixup.ports import Prompt


def prompt(text: str = "hello", **settings) -> Prompt:
    return Prompt("p1", ({"role": "user", "content": text},), **settings)


def request(text: str) -> Request:
    return Request.of("model", prompt(text))


ANSWER = Answer("hi {x}\n€", "length", 3, 4, 0.5, 2, 1.5, {"reasoning": "r"})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


async def put(ledger, text, answer=ANSWER):
    opened = await ledger.open([request(text).key])
    assert opened.claimed
    return await ledger.record(request(text), answer)


def test_an_answer_comes_back_in_another_process_as_it_was(path):
    with Ledger(path) as ledger:
        assert ledger.get(request("a").key) is None
        asyncio.run(put(ledger, "a"))
    with Ledger(path) as ledger:
        assert ledger.get(request("a").key) == ANSWER
        assert ledger.request(request("a").key) == request("a")
        assert ledger.request("unknown") is None


def test_the_key_depends_on_everything_but_the_id():
    base = prompt()
    same = Request.of("model", replace(base, id="other"))
    others = [
        Request.of("model2", base),
        *(
            Request.of("model", replace(base, **change))
            for change in (
                {"messages": ({"role": "user", "content": "hello "},)},
                {"messages": ({"role": "system", "content": "hello"},)},
                {"max_tokens": 7},
                {"temperature": 0.1},
                {"top_p": 0.9},
                {"repetition_penalty": 1.1},
                {"stop": ("x",)},
                {"seed": 0},
                {"schema": {"type": "object"}},
            )
        ),
    ]
    assert same == Request.of("model", base)
    assert len({r.key for r in others} | {same.key}) == len(others) + 1


@given(st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.none(), max_size=4))
def test_the_order_of_names_does_not_matter(extra):
    message = {"role": "user", "content": "x", **extra}
    turned = dict(reversed(message.items()))
    assert Request.of("m", Prompt("1", (message,))).key == Request.of("m", Prompt("1", (turned,))).key


def test_the_first_answer_stays(path):
    async def work(ledger):
        await ledger.record(request("a"), ANSWER)
        return await ledger.record(request("a"), replace(ANSWER, text="later"))

    with Ledger(path) as ledger:
        assert asyncio.run(work(ledger)) == ANSWER
        assert ledger.usage().attempts == 2
        assert ledger.usage().answers == 1


def test_a_failure_is_counted_and_never_served(path):
    async def work(ledger):
        await ledger.record_failure(request("a"), Attempt("http-429", "slow down", latency_s=0.1))
        return await ledger.open([request("a").key])

    with Ledger(path) as ledger:
        opened = asyncio.run(work(ledger))
        assert opened.claimed == {request("a").key}
        assert not opened.answers
        assert dict(ledger.usage().outcomes) == {"http-429": 1}


def test_unknown_prices_and_tokens_are_counted_as_unknown(path):
    async def work(ledger):
        await put(ledger, "a", Answer("x", price_usd=0.25, prompt_tokens=2, completion_tokens=3))
        await put(ledger, "b", Answer("y"))
        await put(ledger, "c", Answer("z", prompt_tokens=5, completion_tokens=0))

    with Ledger(path) as ledger:
        asyncio.run(work(ledger))
        usage = ledger.usage()
    assert (usage.prompt_tokens, usage.completion_tokens, usage.price_usd) == (7, 3, 0.25)
    assert (usage.unknown_tokens, usage.unknown_price) == (1, 2)


def test_thousands_of_answers_share_few_commits(path):
    """A commit changes the WAL's frame count; counted from outside by the data version of another connection."""

    async def work(ledger):
        watcher = sqlite3.connect(path)
        versions = set()
        writes = [ledger.record(request(str(i)), Answer(str(i))) for i in range(3000)]
        for write in writes:
            await write
            versions.add(watcher.execute("PRAGMA data_version").fetchone()[0])
        watcher.close()
        return versions

    with Ledger(path) as ledger:
        versions = asyncio.run(work(ledger))
        assert ledger.usage().answers == 3000
    assert len(versions) < 100


def test_a_finished_write_is_on_disk_before_its_future_is_done(path):
    async def work(ledger):
        await put(ledger, "a")
        other = sqlite3.connect(path)
        rows = other.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
        other.close()
        return rows

    with Ledger(path) as ledger:
        assert asyncio.run(work(ledger)) == 1


def test_a_claim_holds_off_everybody_until_it_is_given_up(path):
    async def work(one, two):
        keys = [request("a").key, request("b").key]
        first = await one.open(keys)
        again = await one.open(keys)
        other = await two.open(keys)
        await one.record(request("a"), ANSWER)
        await one.release(keys)
        last = await two.open(keys)
        return first, again, other, last

    with Ledger(path) as one, Ledger(path) as two:
        first, again, other, last = asyncio.run(work(one, two))
    assert first.claimed == {request("a").key, request("b").key}
    assert again.held == other.held == first.claimed
    assert last.answers == {request("a").key: ANSWER}
    assert last.claimed == {request("b").key}


def test_release_leaves_the_claims_of_others_alone(path):
    async def work(one, two):
        await one.open(["k"])
        await two.release(["k"])
        return await two.open(["k"])

    with Ledger(path) as one, Ledger(path) as two:
        assert asyncio.run(work(one, two)).held == {"k"}


def test_closing_gives_up_the_claims(path):
    with Ledger(path) as one:
        asyncio.run(one.open(["k"]))
    with Ledger(path) as two:
        assert asyncio.run(two.open(["k"])).claimed == {"k"}


def test_a_silent_owner_loses_its_claims(path):
    now = [1000.0]
    with Ledger(path, clock=lambda: now[0]) as one, Ledger(path, clock=lambda: now[0]) as two:
        asyncio.run(one.open(["k"]))
        now[0] += 29
        assert asyncio.run(two.open(["k"])).held == {"k"}
        now[0] += 2
        assert asyncio.run(two.open(["k"])).claimed == {"k"}


HOLDER = """
    import asyncio, sys, time
    from lm_mixup.ledger import Answer, Ledger, Request
    from lm_mixup.ports import Prompt

    async def work():
        ledger = Ledger(sys.argv[1])
        r = [Request.of("model", Prompt("x", ({"role": "user", "content": t},))) for t in ("a", "b")]
        await ledger.open([x.key for x in r])
        await ledger.record(r[0], Answer("kept"))
        print("ready", flush=True)
        time.sleep(60)

    asyncio.run(work())
"""


def test_a_killed_process_leaves_its_answers_and_loses_its_claims(path):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(path)], stdout=subprocess.PIPE, text=True
    )
    with Ledger(path) as ledger:
        assert process.stdout.readline().strip() == "ready"
        keys = [request("a").key, request("b").key]
        before = asyncio.run(ledger.open(keys))
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has looked yet
        after = asyncio.run(ledger.open(keys))
        process.wait()
        process.stdout.close()
    assert before.held == after.claimed == {request("b").key}
    assert after.answers[request("a").key].text == "kept"


WRITER = """
    import asyncio, sys
    from lm_mixup.ledger import Answer, Ledger, Request
    from lm_mixup.ports import Prompt

    async def work(name):
        with Ledger(sys.argv[1]) as ledger:
            for i in range(100):
                r = Request.of("model", Prompt("x", ({"role": "user", "content": str(i)},)))
                await ledger.record(r, Answer(f"{name}"))

    asyncio.run(work(sys.argv[2]))
"""


def test_two_processes_write_one_file_and_the_first_answer_wins(path):
    Ledger(path).close()
    writers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), str(path), name]) for name in ("one", "two")
    ]
    assert [w.wait(timeout=60) for w in writers] == [0, 0]
    with Ledger(path) as ledger:
        usage = ledger.usage()
        assert (usage.answers, usage.attempts) == (100, 200)
        assert ledger.get(request("7").key).text in ("one", "two")


FILLER = """
    import asyncio, resource, signal, sys
    from lm_mixup.errors import StorageError
    from lm_mixup.ledger import Answer, Ledger, Request
    from lm_mixup.ports import Prompt

    async def work():
        ledger = Ledger(sys.argv[1])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        for i in range(1000):
            r = Request.of("model", Prompt("x", ({"role": "user", "content": str(i)},)))
            try:
                await ledger.record(r, Answer("x" * 5000))
            except StorageError as error:
                print(i, error, flush=True)
                sys.exit(error.exit_code)

    asyncio.run(work())
"""


def test_a_full_disk_is_said_and_harms_nothing_that_was_committed(path):
    """A file-size limit makes the kernel refuse the write, as a full disk does."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FILLER), str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == StorageError.exit_code, done.stderr
    count, _, message = done.stdout.partition(" ")
    assert "make room" in message
    with Ledger(path) as ledger:
        assert ledger.usage().answers == int(count) > 3
        assert ledger.get(request("3").key).text == "x" * 5000
        asyncio.run(put(ledger, "more"))
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to look at " * 100)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t (x)")
    for path, word in ((text, "expected a ledger"), (other, "another program's")):
        before = path.read_bytes()
        with pytest.raises(RunError, match=word):
            Ledger(path)
        assert path.read_bytes() == before


def test_a_later_version_is_not_touched(path):
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(RunError, match="version 99"):
        Ledger(path)


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        Ledger(tmp_path / "nowhere" / "ledger.sqlite")


def test_a_closed_ledger_says_so(path):
    ledger = Ledger(path)
    ledger.close()
    ledger.close()
    with pytest.raises(RunError, match="closed"):
        asyncio.run(ledger.open(["k"]))


def test_an_event_loop_that_ends_early_does_not_stop_the_writer(path):
    async def leave(ledger):
        ledger.record(request("a"), ANSWER)

    with Ledger(path) as ledger:
        asyncio.run(leave(ledger))
        deadline = time.monotonic() + 10
        while ledger.get(request("a").key) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ledger.get(request("a").key) == ANSWER
        asyncio.run(put(ledger, "b"))


def test_the_commit_interval_has_its_bounds(path):
    with pytest.raises(ValueError, match=r"0 to 0\.05"):
        Ledger(path, commit_interval_s=0.2)
