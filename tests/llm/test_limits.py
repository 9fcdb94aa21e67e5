"""Concurrency, rates and back-off, on a clock that the test moves."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_mixup.llm.limits import Backoff, Concurrency, Rate


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_the_limit_grows_with_answers_up_to_its_maximum():
    places = Concurrency(40, Clock(), start=4)
    for _ in range(100):
        places.succeeded()
    assert places.limit == 40


def test_congestion_cuts_once_for_what_was_under_way_and_growth_is_slow_after_it():
    clock = Clock()
    places = Concurrency(100, clock, start=100)
    clock.now = 5.0
    for _ in range(7):
        places.congested(sent_at=4.0)
    assert places.limit == pytest.approx(70)
    places.congested(sent_at=5.5)
    assert places.limit == pytest.approx(49)
    for _ in range(49):  # as many answers as places: about one round trip
        places.succeeded()
    assert places.limit == pytest.approx(49 + 5, abs=0.5)


def test_the_limit_never_falls_below_one():
    clock = Clock()
    places = Concurrency(3, clock)
    for i in range(50):
        clock.now = float(i + 1)
        places.congested(sent_at=i + 0.5)
    assert places.limit == 1.0


def test_a_storm_holds_everybody_a_single_429_does_not():
    async def waited(congested):
        places = Concurrency(8, asyncio.get_running_loop().time)
        began = asyncio.get_running_loop().time()
        for _ in range(congested):
            places.congested(began, pause_s=0.3)
        return await places.acquire() - began

    assert asyncio.run(waited(1)) < 0.2
    assert asyncio.run(waited(8)) >= 0.3


@given(st.integers(1, 10), st.integers(1, 60), st.integers(0, 2**32))
def test_places_are_never_overdrawn_and_none_is_lost(maximum, tasks, seed):
    rng = random.Random(seed)

    async def work():
        places = Concurrency(maximum, asyncio.get_running_loop().time, start=2)
        most = 0

        async def one(cancel):
            nonlocal most
            task = asyncio.ensure_future(places.acquire(ahead=rng.random() < 0.2))
            if cancel:
                await asyncio.sleep(0)
                if task.cancel():
                    await asyncio.gather(task, return_exceptions=True)
                    return
            await task
            most = max(most, places.under_way)
            await asyncio.sleep(0)
            places.succeeded() if rng.random() < 0.7 else places.congested(asyncio.get_running_loop().time())
            places.release()

        await asyncio.gather(*(one(rng.random() < 0.3) for _ in range(tasks)))
        return most, places.under_way

    most, left = asyncio.run(work())
    assert most <= maximum
    assert left == 0


def test_a_rate_spreads_and_takes_corrections():
    async def work():
        loop = asyncio.get_running_loop()
        rate, began = Rate(6000, loop.time), loop.time()
        for _ in range(130):  # 100 a second, and a burst of one second's worth
            await rate.take(1)
        free = loop.time() - began
        rate.correct(20)
        await rate.take(1)
        return free, loop.time() - began

    free, corrected = asyncio.run(work())
    assert free >= 0.28
    assert corrected - free >= 0.19


@given(st.integers(1, 100), st.floats(0, 100), st.integers(0, 2**32))
def test_back_off_is_bounded_jittered_and_obeys(failures, asked_for, seed):
    wait = Backoff(0.5, 30.0, random.Random(seed)).seconds(failures, asked_for)
    ceiling = min(30.0, 0.5 * 2 ** (failures - 1))
    assert asked_for + ceiling / 2 <= wait <= asked_for + ceiling


@pytest.mark.parametrize("make", [lambda: Concurrency(0, Clock()), lambda: Rate(0, Clock())])
def test_settings_that_make_no_sense(make):
    with pytest.raises(ValueError, match="expected"):
        make()
