"""The history checker finds what is planted, each by its rule, and accuses nobody wrongly."""

from __future__ import annotations

import pytest

from .book import POOL, Book
from .history import SLACK


@pytest.fixture
def book():
    return Book()


def test_a_good_history_has_no_violation(book):
    first, second = book.get(1, conn=1), book.get(2, conn=2)
    late = book.ask(3)
    book.line(3)
    book.write(1, first)
    book.write(2, second, "unknown", is_there=False)
    book.line(3)
    book.put(1, first)
    book.note(3, "ok", "get", late, 1)
    book.write(3, late, "unknown", is_there=True)
    book.put(3, late)
    book.write(2, second, "fail", is_there=False)
    book.put(2, second)
    impatient = book.ask(1, timeout=1.0)
    book.note(1, "fail", "get", impatient, data="PoolTimeout")
    assert book.rules() == []


# ---- planted ---------------------------------------------------------------------------------------------------------


def test_two_holders_at_once(book):
    first = book.get(1, conn=1)
    second = book.get(2, conn=1)
    book.put(1, first)
    book.put(2, second)
    assert book.rules() == ["two holders"]


def test_two_holders_of_which_the_first_holds_for_longer(book):
    first = book.get(1, conn=1)
    book.turn(2, conn=1)
    book.turn(3, conn=1)
    book.put(1, first)
    assert book.rules() == ["two holders", "two holders"]


def test_two_processes_that_hold_one_backend(book):
    first = book.get(1, conn=1)
    book.note(0, "invoke", "resize", data=2, pool=POOL + 1)
    book.note(0, "ok", "resize", data=2, pool=POOL + 1)
    book.turn(1, conn=1, pool=POOL + 1)
    book.put(1, first)
    assert book.rules() == ["two holders"]


def test_more_than_maxconn(book):
    calls = [book.get(number, conn=number) for number in (1, 2, 3)]
    for number, call in enumerate(calls, start=1):
        book.put(number, call)
    assert book.rules() == ["over maxconn"]


def test_more_than_maxconn_after_a_resize(book):
    first, second = book.get(1, conn=1), book.get(2, conn=2)
    book.resize(1)
    book.put(1, first)
    third = book.get(3, conn=3)  # one is leased still, and one is all there may be
    book.put(2, second)
    book.put(3, third)
    assert book.rules() == []  # it was leased within the limit of its time: 2 and 3 are no more than 2
    fourth, fifth = book.get(1, conn=1), book.get(2, conn=2)
    book.put(1, fourth)
    book.put(2, fifth)
    assert book.rules() == ["over maxconn"]


def test_who_holds_one_may_keep_it_after_a_resize(book):
    first, second = book.get(1, conn=1), book.get(2, conn=2)
    book.resize(1)
    book.put(1, first)
    book.put(2, second)
    book.turn(3, conn=2)
    assert book.rules() == []


def test_a_lease_that_never_ended(book):
    book.get(1, conn=1)
    assert book.rules() == ["lease never ended"]


def test_a_lease_that_had_not_ended_when_its_thread_went_on(book):
    book.get(1, conn=1)
    book.turn(1, conn=2)
    assert book.rules() == ["lease never ended"]


def test_a_lease_that_was_cut_off_by_an_interrupt_may_have_any_end(book):
    call = book.get(1, conn=1)
    book.note(1, "invoke", "write", call, data="token x")
    book.note(1, "note", "interrupt")
    book.turn(2, conn=1)
    assert book.rules() == []
    book.committed.append("token x")
    assert book.rules() == []


def test_a_lease_that_ended_twice(book):
    call = book.get(1, conn=1)
    book.put(1, call)
    book.put(1, call)
    assert set(book.rules()) == {"lease ended twice"}


def test_a_lease_that_ended_when_its_thread_had_gone_on(book):
    first = book.get(1, conn=1)
    book.put(1, first)
    second = book.get(1, conn=1)
    book.note(1, "ok", "put", first)
    book.put(1, second)
    assert book.rules() == ["lease ended twice"]


def test_a_put_of_what_was_never_held(book):
    call = book.ask(1)
    book.note(1, "fail", "get", call, data="PoolTimeout")
    book.put(1, call)
    assert book.rules() == ["lease ended twice"]


@pytest.mark.parametrize(
    ("outcome", "is_there", "found"),
    [("ok", True, []), ("ok", False, ["lost token"]), ("fail", True, ["phantom token"]), ("fail", False, []),
     ("unknown", True, []), ("unknown", False, [])],
)  # fmt: skip
def test_tokens(book, outcome, is_there, found):
    call = book.get(1, conn=1)
    book.write(1, call, outcome, is_there)
    book.put(1, call)
    assert book.rules() == found


def test_a_token_that_nobody_wrote(book):
    book.committed.append("token of nobody")
    assert book.rules() == ["phantom token"]


def test_a_token_that_was_written_twice(book):
    book.turn(1, conn=1)
    book.committed *= 2
    assert book.rules() == ["token twice"]


@pytest.mark.parametrize("place", range(3))
def test_an_answer_that_was_another_ones(book, place):
    call = book.get(1, conn=1)
    found = [f"token {call}", f"token {call}", 1001]
    found[place] = "another"
    book.write(1, call, found=found)
    book.put(1, call)
    assert book.rules() == ["another's answer"]


def test_a_connection_that_was_left_in_a_transaction(book):
    book.put(1, book.get(1, conn=1, data="in a transaction"))
    assert book.rules() == ["not clean"]


def test_calls_that_end_late(book):
    call = book.ask(1, timeout=5.0)
    book.note(1, "ok", "get", call, 1, after=5.1 + SLACK)
    book.note(1, "invoke", "put", call, data=3.0)
    book.note(1, "ok", "put", call, after=3.1 + SLACK)
    assert book.rules() == ["call ended late", "call ended late"]


@pytest.mark.parametrize(("blocked", "pool", "found"), [(3.0, POOL, []), (0.5, POOL, ["call ended late"]),
                                                        (3.0, POOL + 1, ["call ended late"])])  # fmt: skip
def test_a_call_that_a_blocked_loop_kept_from_ending_is_not_late(book, blocked, pool, found):
    call = book.ask(1, timeout=5.0)
    book.note(0, "note", "blocked", data=blocked, after=4.0, pool=pool)
    book.note(1, "ok", "get", call, 1, after=4.0)
    book.put(1, call)
    assert book.rules() == found


def test_calls_that_never_end(book):
    book.ask(1)
    call = book.get(2, conn=2)
    book.note(2, "invoke", "put", call)
    assert book.rules() == ["call never ended", "call never ended"]


def test_putconn_must_not_raise(book):
    call = book.get(1, conn=1)
    book.note(1, "invoke", "put", call)
    book.note(1, "fail", "put", call, data="OperationalError")
    assert book.rules() == ["putconn raised"]


def test_a_thread_that_crashed(book):
    book.note(1, "note", "crash", data="TypeError")
    assert book.rules() == ["crash"]


@pytest.mark.parametrize(("calm", "found"), [((7, 0), ["overtaken"]), ((8, 0), []), (None, [])])
def test_who_is_overtaken_while_nothing_is_lost(book, calm, found):
    call = book.ask(1)
    book.line(1, calm=(7, 0))
    book.turn(2, conn=2)
    book.line(1, calm=calm)
    book.note(1, "ok", "get", call, 1)
    book.put(1, call)
    assert book.rules() == found


def test_who_was_interrupted_and_asks_again_stands_behind(book):
    book.ask(1)
    book.line(1)
    second = book.ask(2)
    book.note(1, "note", "interrupt")
    call = book.ask(1)
    book.note(2, "ok", "get", second, 2)
    book.line(1)
    book.put(2, second)
    book.note(1, "ok", "get", call, 1)
    book.put(1, call)
    assert book.rules() == []


def test_who_asked_before_the_first_look_overtakes_nobody(book):
    first, second = book.ask(1), book.ask(2)
    book.line(1)
    book.note(2, "ok", "get", second, 2)
    book.line(1)
    book.put(2, second)
    book.note(1, "ok", "get", first, 1)
    book.put(1, first)
    assert book.rules() == []
