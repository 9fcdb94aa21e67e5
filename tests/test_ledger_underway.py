"""What a process had on its way outlasts a kill: answers that waited for their commit, and requests without a cap."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections import Counter

import pytest

from lm_mixup.errors import StorageError
from lm_mixup.ledger import Answer, Attempt, Budget, Ledger, Request, Reservation
from lm_mixup.ledger.entries import LOST, Kept
from lm_mixup.ledger.underway import UnderWay, left_by
from lm_mixup.ports import Prompt


def request(text: str) -> Request:
    return Request.of("model", Prompt("p", ({"role": "user", "content": text},)))


def kept(text: str, when: float = 1.0, outcome: str = "http-500") -> Kept:
    return Kept(request(text), Attempt(outcome, "said so", latency_s=0.5), when, reserved=Reservation(7, 0.5, 3))


WORST = Reservation(100, 0.25)

# ---- the files ------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_as_it_was(tmp_path):
    way = UnderWay(tmp_path / "w")
    way.sent("a", WORST)
    way.sent(request("b").key, WORST)
    way.ended(kept("b"))
    left = left_by(tmp_path / "w")
    assert left.ended == [kept("b")]
    assert left.open == [("a", 100, 0.25)]
    assert way.left().open == left.open
    way.remove()
    assert left_by(tmp_path / "w").open == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_a_kill_cut_is_left_out(tmp_path, cut):
    way = UnderWay(tmp_path / "w")
    way.sent("a", WORST)
    way.sent("b", WORST)
    path = tmp_path / "w-1"
    path.write_bytes(path.read_bytes()[:-cut])
    assert [key for key, _, _ in left_by(tmp_path / "w").open] in (["a"], [])


def test_the_files_take_turns_and_stay_small(tmp_path):
    way = UnderWay(tmp_path / "w", turn_bytes=2000)
    way.sent("long", WORST)
    for number in range(500):
        way.ended(kept(str(number)))
        assert kept(str(number)) in left_by(tmp_path / "w").ended
        way.take_turns()
        if number % 3 == 0:
            way.committed(everything=True)
        assert left_by(tmp_path / "w").open == [("long", 100, 0.25)]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8000


def test_nothing_is_emptied_once_a_commit_has_failed(tmp_path):
    way = UnderWay(tmp_path / "w", turn_bytes=10)
    way.ended(kept("a"))
    way.take_turns()
    way.committed(everything=False)
    way.committed(everything=True)
    assert [k.request for k in way.left().ended] == [request("a")]


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="make room"):
        UnderWay(tmp_path / "nowhere" / "w").sent("a", WORST)


# ---- through a kill -------------------------------------------------------------------------------------------------

KILLED = """
    import asyncio, os, signal, sys
    from lm_mixup.ledger import Answer, Attempt, Ledger, Request, Reservation
    from lm_mixup.ports import Prompt

    def request(text):
        return Request.of("model", Prompt("p", ({"role": "user", "content": text},)))

    async def work():
        ledger = Ledger(sys.argv[1], commit_interval_s=0.05)
        await ledger.open([request(str(i)).key for i in range(300)])
        for i in range(200):
            key = request(str(i)).key
            ledger.sent(key, Reservation(100, 0.5))
            if i % 10 == 3:
                ledger.record_failure(request(str(i)), Attempt("http-500", billed=True), Reservation(100, 0.5))
            elif i % 10 != 7:
                ledger.record(request(str(i)), Answer(f"answer {i}", "stop", 6, 4, 0.01))
            if i == int(sys.argv[2]):
                await asyncio.sleep(0.2)  # so much is committed
            if i == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(work())
"""


@pytest.mark.parametrize(("committed", "killed"), [(-1, 199), (120, 199), (199, 199), (50, 51)])
def test_no_answer_that_came_in_is_lost_and_each_attempt_counts_once(tmp_path, committed, killed):
    path = tmp_path / "ledger.sqlite"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path), str(committed), str(killed)]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    sent = range(killed + 1)
    answered = [i for i in sent if i % 10 not in (3, 7)]
    with Ledger(path) as ledger:
        keys = [request(str(i)).key for i in range(300)]
        opened = asyncio.run(ledger.open(keys))  # buries the dead
        found = ledger.answers(keys)
        usage, spent = ledger.usage(), ledger.spent()
    assert {keys.index(key) for key in found} == set(answered)
    assert all(found[keys[i]].text == f"answer {i}" for i in answered)
    assert opened.claimed == set(keys) - set(found)
    failed, lost = sum(i % 10 == 3 for i in sent), sum(i % 10 == 7 for i in sent)
    assert Counter(usage.outcomes) == Counter({"answer": len(answered), "http-500": failed, LOST: lost})
    # cut off on the way without a cap, and charged at the worst case all the same
    assert spent.tokens == 10 * len(answered) + 100 * (failed + lost)
    assert spent.requests == len(sent)
    assert spent.usd == pytest.approx(0.01 * len(answered) + 0.5 * (failed + lost))
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_an_answer_that_somebody_else_had_first_stays_and_the_attempt_counts(tmp_path):
    path = tmp_path / "ledger.sqlite"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path), "-1", "0"]

    async def work(ledger):
        await ledger.record(request("0"), Answer("mine"))
        subprocess.run(command, timeout=60, check=False)
        return await ledger.open([request("0").key, request("1").key])

    with Ledger(path) as ledger:
        opened = asyncio.run(work(ledger))
        assert opened.answers[request("0").key].text == "mine"
        assert ledger.usage().outcomes == {"answer": 2}


def test_a_cap_set_after_a_killed_run_without_caps_counts_what_that_run_had_on_its_way(tmp_path):
    path = tmp_path / "ledger.sqlite"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path), "-1", "7"]
    subprocess.run(command, timeout=60, check=False)

    async def work(ledger, tokens):
        return await ledger.reserve("k", Reservation(10, None), Budget(max_tokens=tokens))

    # 6 answers at 10 tokens, one failure and one cut off at 100 each
    with Ledger(path) as ledger:
        assert asyncio.run(work(ledger, 269)) is False
        assert isinstance(asyncio.run(work(ledger, 270)), Reservation)


def test_a_reservation_that_was_settled_before_the_kill_is_settled_once(tmp_path):
    code = """
        import asyncio, os, signal, sys
        from lm_mixup.ledger import Answer, Budget, Ledger, Request, Reservation
        from lm_mixup.ports import Prompt

        async def work():
            ledger = Ledger(sys.argv[1], commit_interval_s=0.05)
            for text in "ab":
                request = Request.of("model", Prompt("p", ({"role": "user", "content": text},)))
                got = await ledger.reserve(request.key, Reservation(100, None), Budget(max_tokens=1000))
                if text == "a":
                    ledger.record(request, Answer("x", "stop", 6, 4), got)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(work())
    """
    path = tmp_path / "ledger.sqlite"
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], timeout=60, check=False)
    with Ledger(path) as ledger:
        asyncio.run(ledger.open(["other"]))
        assert ledger.spent().tokens == 10 + 100
        assert ledger.usage().outcomes == {"answer": 1, LOST: 1}
    assert sqlite3.connect(path).execute("SELECT COUNT(*) FROM reservations").fetchone() == (0,)


def test_closing_leaves_no_files_and_charges_what_was_on_its_way(tmp_path):
    async def work(ledger):
        await ledger.open([request("a").key, request("b").key])
        for text in "ab":
            ledger.sent(request(text).key, Reservation(100, None))
        ledger.record(request("a"), Answer("x", "stop", 6, 4))
        assert len(list(tmp_path.glob("*-underway-*"))) == 1

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        asyncio.run(work(ledger))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.spent().tokens == 110
        assert ledger.usage().outcomes == {"answer": 1, LOST: 1}
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_the_files_of_a_living_process_are_left_alone(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as one, Ledger(path) as two:
        asyncio.run(one.open(["k"]))
        asyncio.run(sent(one))
        asyncio.run(two.open(["other"]))
        assert two.usage().attempts == 0
        assert len(list(tmp_path.glob("*-underway-*"))) == 1
    assert os.listdir(tmp_path) == ["ledger.sqlite"]


async def sent(ledger):
    ledger.sent("k", WORST)
