"""Reads protocol buffers in their text format without a descriptor, as Triton's config.pbtxt is written. PURE.

The library protobuf reads the format only with the compiled definition of the message, and refuses what that does not
know; an importer has to name it. https://protobuf.dev/reference/protobuf/textformat-spec/
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modeldeploy.requests import Refused

_TOKEN = re.compile(
    r"""(?P<blank>[\s]+|\#[^\n]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)[fF]?)
    |(?P<name>-?[A-Za-z_][A-Za-z0-9_.]*|\[[\w./-]+\])
    |(?P<sign>[{}<>\[\]:;,])""",
    re.VERBOSE,
)
_DEEPEST = 32
_CLOSING = {"{": "}", "<": ">"}
_WORDS = {"true": True, "false": False}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


def parse(text: str) -> dict[str, list[Any]]:
    """Return a message: for each field the list of its values, which are texts, numbers, booleans and messages.

    Raises Refused with the line.
    """
    reader = _Reader(list(_tokens(text)))
    return reader.message("", 0)


def _tokens(text: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise Refused(f"line {line}: {text[at : at + 20]!r} is no text of protocol buffers")
        kind = str(found.lastgroup)
        if kind != "blank":
            yield _Token(kind, found[0], line)
        line += found[0].count("\n")
        at = found.end()


class _Reader:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._at = tokens, 0

    def message(self, closing: str, depth: int) -> dict[str, list[Any]]:
        """Read fields up to `closing`, or to the end."""
        if depth > _DEEPEST:
            raise Refused(f"line {self._peek().line}: messages are nested more than {_DEEPEST} deep")
        fields: dict[str, list[Any]] = {}
        while not self._is_at(closing):
            name = self._next()
            if name.kind != "name":
                raise Refused(f"line {name.line}: expected the name of a field, and it is {name.text!r}")
            colon = self._skip(":")
            values = fields.setdefault(name.text, [])
            if self._skip("["):
                while not self._skip("]"):
                    values.append(self._value(depth))
                    self._skip(",")
            elif colon or self._peek().text in _CLOSING:
                values.append(self._value(depth))
            else:
                raise Refused(f"line {name.line}: {name.text} has no value: write a colon and the value behind it")
            self._skip(",")
            self._skip(";")
        return fields

    def _value(self, depth: int) -> Any:
        token = self._next()
        if token.text in _CLOSING:
            inner = self.message(_CLOSING[token.text], depth + 1)
            self._at += 1
            return inner
        if token.kind == "text":
            value = _unquoted(token.text)
            while self._at < len(self._tokens) and self._peek().kind == "text":  # texts side by side are one
                value += _unquoted(self._next().text)
            return value
        if token.kind == "number":
            return _number(token.text)
        if token.kind == "name":
            return _WORDS.get(token.text, token.text)
        raise Refused(f"line {token.line}: expected a value, and it is {token.text!r}")

    def _is_at(self, closing: str) -> bool:
        if self._at >= len(self._tokens):
            if closing:
                raise Refused(f"line {self._tokens[-1].line}: the file ends before {closing!r}")
            return True
        return bool(closing) and self._peek().text == closing and self._peek().kind == "sign"

    def _peek(self) -> _Token:
        if self._at >= len(self._tokens):
            line = self._tokens[-1].line if self._tokens else 1
            raise Refused(f"line {line}: the file ends before the value of a field")
        return self._tokens[self._at]

    def _next(self) -> _Token:
        token = self._peek()
        self._at += 1
        return token

    def _skip(self, sign: str) -> bool:
        is_there = self._at < len(self._tokens) and self._peek().kind == "sign" and self._peek().text == sign
        self._at += is_there
        return is_there


def _number(text: str) -> int | float:
    try:
        return int(text, 0)
    except ValueError:
        return float(text.rstrip("fF"))


def _unquoted(text: str) -> str:
    def plain(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        return chr(int(found[2], 8)) if found[2] else _ESCAPED.get(found[3], found[3])

    return _ESCAPE.sub(plain, text[1:-1])
