"""Passwords in the errors of drivers that echo what they were given: taken out.

The patterns are compiled when something went wrong: most pools never need them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORDS = ("password", "passwd", "sslpassword", "secret", "token")
MASK = "***"
PAIR = r"""(?i)\b(\w*(?:password|passwd))(\s*=\s*)('(?:[^'\\]|\\.)*'|"[^"]*"|[^\s&;,)}'"]+)"""
URI = r"(://[^/\s@:]*:)(.+)(@)"
ITEM = r"""(?i)(['"]\w*(?:password|passwd)['"]\s*:\s*)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
TOKEN = r'(missing "=" after )"[^"]*"'  # of a DSN: perhaps the second word of an unquoted password
DSN_PAIR = r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:\\.|[^\s'&])+)"
# What an import raises when no descriptor is left; or what a half loaded module does, when another thread had none.
CANNOT_LOAD = (ImportError, OSError, AttributeError)


def masked(text: str, known: set[str] | None = None) -> str:
    """Return *text* without what looks like a password, and without those that are *known*."""
    import re

    for secret in sorted(known or (), key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = re.sub(URI, rf"\1{MASK}\3", text)
    text = re.sub(TOKEN, rf'\1"{MASK}"', text)
    text = re.sub(PAIR, rf"\1\2{MASK}", text)
    return re.sub(ITEM, rf"\1'{MASK}'", text)


def mask_error(error: BaseException, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Take the passwords among the arguments of connect out of what *error* says, and its causes."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        try:
            known = _known(args, kwargs)
            each.args = tuple(masked(part, known) if isinstance(part, str) else part for part in each.args)
        except CANNOT_LOAD:  # better no text than a password
            each.args = tuple(MASK if isinstance(part, str) else part for part in each.args)
        each = each.__cause__ or each.__context__


def _known(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> set[str]:
    """Return the passwords; not one that is also somebody's name, and so no secret, nor one that is in any text."""
    secrets: set[str] = set()
    others: set[str] = set()
    for name, value in _pairs(args, kwargs):
        (secrets if name.lower() in WORDS else others).add(str(value))
    return {secret for secret in secrets - others if len(secret) > 3}


def _pairs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    import re

    pairs = [(str(name), value) for name, value in kwargs.items()]
    for arg in args:
        if isinstance(arg, Mapping):
            pairs += [(str(name), value) for name, value in arg.items()]
        elif isinstance(arg, str):
            pairs += [(name, _plain(value)) for name, value in re.findall(DSN_PAIR, arg)]
            pairs += _of_uri(arg)
    return pairs


def _plain(value: str) -> str:
    """Undo libpq's quotes."""
    import re

    if value.startswith("'"):
        value = value[1:-1]
    return re.sub(r"\\(.)", r"\1", value)


def _of_uri(text: str) -> list[tuple[str, str]]:
    """Return the user and what may be the password: with its parts, for one that is not quoted is cut in pieces."""
    import re

    found = re.match(r"\w+://([^/@:]*):(.*)@", text, re.DOTALL)
    if not found:
        return []
    from urllib.parse import unquote

    parts = {found[2], *re.split(r"[/:@?#&=\s]", found[2])}
    return [("user", unquote(found[1])), *(("password", said(part)) for part in parts for said in (str, unquote))]
