"""Passwords in the errors of drivers that echo what they were given: taken out. (Loaded when something went wrong.)"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

WORDS = ("password", "passwd", "sslpassword", "secret", "token")
MASK = "***"
_PAIR = re.compile(r"""\b(\w*(?:password|passwd))(\s*=\s*)('(?:[^'\\]|\\.)*'|"[^"]*"|[^\s&;,)}'"]+)""", re.IGNORECASE)
_URI = re.compile(r"(://[^/\s@:]*:)(.+)(@)")
_ITEM = re.compile(r"""(['"]\w*(?:password|passwd)['"]\s*:\s*)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", re.IGNORECASE)
_TOKEN = re.compile(r'(missing "=" after )"[^"]*"')  # of a DSN: perhaps the second word of an unquoted password
_DSN_PAIR = re.compile(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:\\.|[^\s'&])+)")


def masked(text: str, known: set[str] | None = None) -> str:
    """Return *text* without what looks like a password, and without those that are *known*."""
    for secret in sorted(known or (), key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _URI.sub(rf"\1{MASK}\3", text)
    text = _TOKEN.sub(rf'\1"{MASK}"', text)
    text = _PAIR.sub(rf"\1\2{MASK}", text)
    return _ITEM.sub(rf"\1'{MASK}'", text)


def mask_error(error: BaseException, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Take the passwords among the arguments of connect out of what *error* says, and its causes."""
    known = _known(args, kwargs)
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        each.args = tuple(masked(part, known) if isinstance(part, str) else part for part in each.args)
        each = each.__cause__ or each.__context__


def _known(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> set[str]:
    """Return the passwords; not one that is also somebody's name, and so no secret, nor one that is in any text."""
    secrets: set[str] = set()
    others: set[str] = set()
    for name, value in _pairs(args, kwargs):
        (secrets if name.lower() in WORDS else others).add(str(value))
    return {secret for secret in secrets - others if len(secret) > 3}


def _pairs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    pairs = [(str(name), value) for name, value in kwargs.items()]
    for arg in args:
        if isinstance(arg, Mapping):
            pairs += [(str(name), value) for name, value in arg.items()]
        elif isinstance(arg, str):
            pairs += [(name, _plain(value)) for name, value in _DSN_PAIR.findall(arg)]
            pairs += _of_uri(arg)
    return pairs


def _plain(value: str) -> str:
    """Undo libpq's quotes."""
    if value.startswith("'"):
        value = value[1:-1]
    return re.sub(r"\\(.)", r"\1", value)


def _of_uri(text: str) -> list[tuple[str, str]]:
    """Return the user and what may be the password: with its parts, for one that is not quoted is cut in pieces."""
    found = re.match(r"\w+://([^/@:]*):(.*)@", text, re.DOTALL)
    if not found:
        return []
    from urllib.parse import unquote

    parts = {found[2], *re.split(r"[/:@?#&=\s]", found[2])}
    return [("user", unquote(found[1])), *(("password", said(part)) for part in parts for said in (str, unquote))]
