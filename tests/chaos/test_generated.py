"""Generated histories: of a correct pool nothing is said; what is taken out of one or swapped is missed."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from .book import Book


def played(seed, threads=4, maxconn=2, steps=60):
    """Return the history of a correct pool, which some threads use at random, and what they did with it."""
    rng, book = random.Random(seed), Book(maxconn)
    idle, line, calls = list(range(1, maxconn + 1)), [], {}
    for _ in range(steps):
        thread = rng.randint(1, threads)
        if thread not in calls:
            calls[thread] = [book.ask(thread), None]
            line.append(thread)
        elif calls[thread][1] is not None:
            call, conn = calls.pop(thread)
            outcome = rng.choice(("ok", "fail", "unknown"))
            book.write(thread, call, outcome, is_there=outcome == "ok" or (outcome == "unknown" and rng.random() < 0.5))
            book.put(thread, call)
            idle.append(conn)
        while idle and line:
            first, conn = line.pop(0), idle.pop()
            book.note(first, "ok", "get", calls[first][0], conn)
            calls[first][1] = conn
        book.line(*line)
    for thread in calls:
        book.note(thread, "note", "interrupt")
    return book


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_no_good_history_is_accused(seed):
    assert played(seed).rules() == []


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_a_good_history_of_which_a_connection_was_swapped_is_accused(seed, data):
    book = played(seed)
    gets = [n for n, event in enumerate(book.events) if event.stage == "ok" and event.op == "get"]
    written = {event.call for event in book.events if event.op == "read"}
    gets = [number for number in gets if book.events[number].call in written]
    if gets:
        number = data.draw(st.sampled_from(gets))
        event = book.events[number]
        other = 3 - event.conn
        book.events[number] = event._replace(conn=other, pid=1000 + other)
        assert "another's answer" in book.rules()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_a_good_history_that_lacks_a_put_or_a_token_is_accused(seed, data):
    book = played(seed)
    acknowledged = {event.call for event in book.events if event.op == "write" and event.stage == "ok"}
    tokens = [token for token in book.committed if int(token.split()[1]) in acknowledged]
    if tokens:
        lost = data.draw(st.sampled_from(tokens))
        book.committed.remove(lost)
        assert book.rules() == ["lost token"]
        book.committed.append(lost)
        call = int(lost.split()[1])
        book.events = [event for event in book.events if event.op != "put" or event.call != call]
        assert "lease never ended" in book.rules()
