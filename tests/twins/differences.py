"""What differs between psycopg2.pool and its twins, and why. A difference that is not here is a bug."""

from __future__ import annotations

from typing import NamedTuple

from .cases import BOTH, SIMPLE, THREADED

BUG_FIX, ON_PURPOSE = "bug fix", "on purpose"


class Difference(NamedTuple):
    """Why the outcome of a case differs.

    With like_psycopg2() a bug stays mended; what is on purpose does not differ then, or is a name, which no config
    can change.
    """

    kind: str
    reason: str
    classes: tuple[str, ...] = BOTH
    only_like_psycopg2: bool = False  # by default the case cannot come about


DIFFERENCES: dict[str, Difference] = {
    # Names: on purpose, and the same with every config.
    "persistent_connection_pool": Difference(ON_PURPOSE, "psycopg2 dropped it in 2.8; KingbaseES's manual shows it"),
    "public_methods_of_abstract": Difference(ON_PURPOSE, "KingbaseES's manual uses AbstractConnectionPool directly"),
    "aliases": Difference(
        ON_PURPOSE, "getconn and putconn are the hot path; the underscore methods call them", (SIMPLE,)
    ),
    "signature_of_init": Difference(ON_PURPOSE, "config=, the one keyword that is not connect's"),
    "signature_of_getconn": Difference(ON_PURPOSE, "timeout=, for one call"),
    "signature_of_putconn": Difference(
        ON_PURPOSE, "conn may be left out in every class, and is refused as None is", (SIMPLE,)
    ),
    "further_public_attributes": Difference(ON_PURPOSE, "what our other pools offer: connection(), stats() ..."),
    "context_manager": Difference(ON_PURPOSE, "`with pool:` closes it"),
    "representation": Difference(ON_PURPOSE, "repr shows the state"),
    "underscore_method_replaced_on_the_class": Difference(
        ON_PURPOSE, "getconn does not look for _getconn at each call; replace getconn itself", (THREADED,)
    ),
    # On purpose, and not with like_psycopg2().
    "exhausted_while_another_thread_works": Difference(
        ON_PURPOSE, "who can be served waits for it, up to timeout", (THREADED,)
    ),
    "server_refuses_for_the_moment": Difference(
        ON_PURPOSE, "a restart is waited for, up to timeout; the error names the driver's as its cause", (THREADED,)
    ),
    "kept_idle": Difference(ON_PURPOSE, "up to maxconn stay idle: bursts need not connect anew (#563, #1622)"),
    "which_one_is_kept_idle": Difference(ON_PURPOSE, "all are"),
    "nothing_is_kept_without_minconn": Difference(ON_PURPOSE, "minconn=0 pools too (#563)"),
    # Sizes.
    "negative_minconn": Difference(BUG_FIX, "means nothing: refused by its name"),
    "maxconn_below_minconn": Difference(BUG_FIX, "psycopg2 then has no limit at all"),
    "maxconn_of_nothing": Difference(BUG_FIX, "a pool that can never lend"),
    "maxconn_is_lowered": Difference(BUG_FIX, "psycopg2 compares by ==, so that the limit is passed over and gone"),
    "minconn_is_lowered": Difference(
        BUG_FIX, "psycopg2 keeps for good what is idle above the new minconn", only_like_psycopg2=True
    ),
    # Losses.
    "constructor_fails_half_way": Difference(BUG_FIX, "those that were open are closed, not left to the collector"),
    "idle_connection_whose_session_ended": Difference(BUG_FIX, "it is looked at before it is handed out (#764, #1082)"),
    "put_when_rollback_fails": Difference(BUG_FIX, "psycopg2 raises, and the slot is lost for good (#62)"),
    "dropped_without_put": Difference(BUG_FIX, "psycopg2 never gets the slot back; here a ResourceWarning tells of it"),
    "idle_connection_closed_behind_the_pools_back": Difference(BUG_FIX, "psycopg2 hands it out (#764, #1082)"),
    "closed_is_set_and_what_is_idle_stays": Difference(BUG_FIX, "nobody would close what a closed pool keeps open"),
    "views_of_a_closed_pool": Difference(BUG_FIX, "a closed pool keeps no closed connections alive"),
    # Puts that psycopg2 notices when it has changed the pool already, or not at all.
    "put_twice_with_its_key": Difference(BUG_FIX, "psycopg2 closes a connection that is idle, then raises KeyError"),
    "put_of_another_pools_connection_with_a_key": Difference(BUG_FIX, "psycopg2 pools it, then raises KeyError"),
    "put_under_another_key": Difference(BUG_FIX, "psycopg2 forgets the other key's connection"),
    "put_with_a_key_that_it_has_not": Difference(BUG_FIX, "psycopg2 pools it, raises KeyError, and counts it as used"),
    "put_of_none_with_a_key": Difference(BUG_FIX, "a PoolError, not an AttributeError"),
    # Keys.
    "automatic_keys_and_users_numbers": Difference(BUG_FIX, "psycopg2's own keys are 1, 2, ...: getconn(1) shares one"),
    "type_of_automatic_keys": Difference(BUG_FIX, "as above: of a type of their own they equal no user's key"),
    "private_views_of_automatic_keys_when_leased_again": Difference(BUG_FIX, "a late put: PoolError, not KeyError"),
    "key_given_to_connect": Difference(
        BUG_FIX, "psycopg2 holds its lock while it connects; without, a connection gets its key only when it is open"
    ),
    # What is seen and said.
    "arguments_show_when_printed": Difference(BUG_FIX, "there may be a password in them"),
    "private_views_are_the_pools_own": Difference(BUG_FIX, "copies: what is written into them breaks no pool"),
    "whole_text_of_exhausted": Difference(BUG_FIX, "goes on to say which pool, and who has its connections"),
    "whole_text_of_unkeyed": Difference(BUG_FIX, "goes on to say what is wrong with it"),
    # Arguments that psycopg2 answers with a TypeError.
    "mapping_as_the_only_argument": Difference(BUG_FIX, "KingbaseES's users pass one: taken as keywords"),
    "callable_as_the_only_argument": Difference(BUG_FIX, "asked anew for each connection: passwords change (#1625)"),
}  # fmt: skip
