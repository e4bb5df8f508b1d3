"""Filters over a catalogue's columns: a small language, parsed to a tree, never run as it stands.

    price < 80 and brand in ["Acme", "Bolt"]
    10 <= price < 80 and not (colour = "red" or `sleeve length` != "long")

A column is `id`, `file`, `category`, `caption`, or any further column of the catalogue's table;
names of other than letters, digits and underscores stand in backquotes. A number is compared with
the values that are numbers, a text in quotes with the text as it stands. Comparisons with a
garment's missing (or empty) value are false, so `!=`, `not in` and `not` are true of it; `= ""`
finds the missing ones.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

Value = str | int | float

OPERATORS = ("=", "!=", "<", "<=", ">", ">=")

_MOST_TERMS = 500  # SQLite refuses expressions of a depth of 1000
_MOST_VALUES = 10_000  # and more than some 32,000 parameters
_DEEPEST = 50
_MOST_DIGITS = 300  # more are no finite number for SQLite

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_TOKEN = re.compile(
    rf"""\s*(?:
        (?P<number>{_NUMBER})(?![\w.])
      | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<quoted>`(?:[^`]|``)+`)
      | (?P<word>[^\W\d]\w*)
      | (?P<operator><=|>=|!=|==|<>|=|<|>)
      | (?P<mark>[()\[\],])
    )""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER_ALONE = re.compile(_NUMBER, re.ASCII)
_KEYWORDS = ("and", "or", "not", "in")
_CLOSING = {"(": ")", "[": "]"}
_SIGNS = {ast.Eq: "=", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


class Filter:
    """A condition on a garment's columns; see Comparison, Membership, And, Or and Not."""

    def to_sql(self) -> tuple[str, list[Value | bytes]]:
        """Return an SQL condition on the columns that `sql_column` names, and its parameters.

        It is true of exactly those garments that the filter is true of; else false or NULL.
        """
        raise NotImplementedError

    def columns(self) -> set[str]:
        """Return the names of the catalogue's columns that the filter looks at."""
        return {term.column for term in self._terms()}

    def _terms(self) -> Iterator[Filter]:
        """Yield the comparisons and memberships in the filter."""
        yield self


@dataclass(frozen=True)
class Comparison(Filter):
    """The filter `column op value`; op is one of OPERATORS."""

    column: str
    op: str
    value: Value

    def to_sql(self) -> tuple[str, list[Value | bytes]]:
        name = sql_column(self.column, is_number(self.value))
        if self.value == "":
            # "" stands for a missing value, which is neither below nor above any other.
            sql = {"=": f"{name} IS NULL", "!=": f"{name} IS NOT NULL", ">": f"{name} IS NOT NULL"}
            sql[">="] = sql[">"]
            return sql.get(self.op, "0"), []
        op = {"=": "IS", "!=": "IS NOT"}.get(self.op, self.op)
        return f"{name} {op} ?", [sql_value(self.value)]


@dataclass(frozen=True)
class Membership(Filter):
    """The filter `column in [values]`, or `not in` if negated."""

    column: str
    values: tuple[Value, ...]
    negated: bool = False

    def to_sql(self) -> tuple[str, list[Value | bytes]]:
        parts: list[str] = []
        parameters: list[Value | bytes] = []
        for numbers in (False, True):
            name = sql_column(self.column, numbers)
            values = [v for v in self.values if is_number(v) == numbers and v != ""]
            if values:
                parts.append(f"{name} IN ({', '.join('?' * len(values))})")
                parameters += map(sql_value, values)
        if "" in self.values:
            parts.append(f"{sql_column(self.column, False)} IS NULL")
        sql = f"({' OR '.join(parts) or '0'})"
        return (f"{sql} IS NOT TRUE" if self.negated else sql), parameters


@dataclass(frozen=True)
class _Junction(Filter):
    parts: tuple[Filter, ...]
    word: ClassVar[str]

    def to_sql(self) -> tuple[str, list[Value | bytes]]:
        conditions, parameters = [], []
        for part in self.parts:
            sql, values = part.to_sql()
            conditions.append(f"({sql})")
            parameters += values
        return f" {self.word} ".join(conditions), parameters

    def _terms(self) -> Iterator[Filter]:
        for part in self.parts:
            yield from part._terms()


class And(_Junction):
    """The filter that is true where all of `parts` are."""

    word = "AND"


class Or(_Junction):
    """The filter that is true where any of `parts` is."""

    word = "OR"


@dataclass(frozen=True)
class Not(Filter):
    """The filter that is true where `part` is not."""

    part: Filter

    def to_sql(self) -> tuple[str, list[Value | bytes]]:
        sql, parameters = self.part.to_sql()
        return f"({sql}) IS NOT TRUE", parameters

    def _terms(self) -> Iterator[Filter]:
        return self.part._terms()


def is_number(value: Value) -> bool:
    """Tell whether a value in a filter is a number, and not a text in quotes."""
    return not isinstance(value, str)


def number_of(text: str) -> float | None:
    """Return the number that a column's text stands for; None where it is no number."""
    return float(text) if _NUMBER_ALONE.fullmatch(text) else None


def sql_column(column: str, number: bool) -> str:
    """Return the quoted SQL name of a column's texts, or of its values that are numbers.

    SQLite compares names without regard to case; what it could confuse or misread is escaped.
    """
    safe = re.sub(r"[^a-z0-9_ ]", lambda match: f"%{ord(match[0]):x}.", column)
    return f'"{"number" if number else "text"}:{safe}"'


def sql_value(value: Value) -> Value | bytes:
    """Return a value as SQLite stores it; texts that are no UTF-8 (odd file names) become bytes."""
    if is_number(value):
        return float(value)
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
    return value


@dataclass(frozen=True)
class _Token:
    role: str  # value, column, operator, end, or the keyword or bracket itself
    value: Value
    place: int


_TERM, _COMPARED, _VALUE = "a column, 'not' or '('", "a comparison (= != < <= > >=)", "a value"
_IN, _LIST, _ITEM, _COMMA, _COLUMN = "'in'", "a list such as [1, 2]", "an item", "','", "a column"
_TESTED, _BETWEEN, _DONE = f"{_COMPARED} or 'in'", "a second comparison", "'and', 'or' or the end"
_GRAMMAR = {
    _TERM: {"column": _TESTED, "value": _COMPARED, "not": _TERM, "(": _TERM},
    _TESTED: {"operator": _VALUE, "in": _LIST, "not": _IN},
    _IN: {"in": _LIST},
    _LIST: {"[": _ITEM, "(": _ITEM},
    _ITEM: {"value": _COMMA, "]": _DONE, ")": _DONE},
    _COMMA: {",": _ITEM, "]": _DONE, ")": _DONE},
    _VALUE: {"value": _DONE},
    _COMPARED: {"operator": _COLUMN},  # 10 <= price
    _COLUMN: {"column": _BETWEEN},
    _BETWEEN: {"operator": _VALUE, "and": _TERM, "or": _TERM, ")": _DONE, "end": _DONE},
    _DONE: {"and": _TERM, "or": _TERM, ")": _DONE, "end": _DONE},
}
"""What is expected, and what after each token that may stand there; brackets are matched apart."""


def parse_filter(text: str) -> Filter:
    """Parse a filter; see the module for its language.

    The tokens are read here, since the language has what Python lacks: `=` and `<>`, names in
    backquotes or of Python's keywords, words in capitals, texts with other escapes. The tree is
    made by Python's own parser, from a source that holds nothing but the tokens' numbers as names,
    operators and brackets; nothing is evaluated.

    Raises:
        ValueError: the text is not a filter; the message shows where.
    """
    tokens = list(_tokens(text))
    tree = ast.parse(" ".join(_python_source(text, tokens)), mode="eval")
    return _filter_of(tree.body, tokens)


def _tokens(text: str) -> Iterator[_Token]:
    place, length = 0, len(text.rstrip())
    while place < length:
        match = _TOKEN.match(text, place)
        if match is None:
            start = place + len(text[place:]) - len(text[place:].lstrip())
            raise _error(text, start, "a column, an operator or a value")
        kind, word = match.lastgroup, match[match.lastgroup]
        start = match.start(kind)
        role, value = word.lower(), word
        if kind == "number":
            whole = len(word) < _MOST_DIGITS and not set(word) & set(".eE")
            role, value = "value", int(word) if whole else float(word)
        elif kind == "text":
            role, value = "value", re.sub(r"\\(.)", r"\1", word[1:-1], flags=re.DOTALL)
        elif kind == "quoted":
            role, value = "column", word[1:-1].replace("``", "`")
        elif kind == "operator":
            role, value = "operator", {"=": "==", "<>": "!="}.get(word, word)
        elif role in ("true", "false"):
            role, value = "value", role
        elif kind == "word" and role not in _KEYWORDS:
            role = "column"
        yield _Token(role, value, start)
        place = match.end()
    yield _Token("end", "", len(text))


def _python_source(text: str, tokens: list[_Token]) -> Iterator[str]:
    """Write the tokens as Python: columns and values are named t0, t1, ... by their numbers.

    Raises:
        ValueError: one stands where the grammar has none; the message shows it.
    """
    expected, terms, values = _TERM, 0, 0
    levels: list[str] = []  # what closes the brackets around a place, and the nots before it
    for number, token in enumerate(tokens):
        role = token.role
        closing = next((level for level in reversed(levels) if level != "not"), "end")
        terms += expected == _TERM and role not in ("not", "(")
        after = _GRAMMAR[expected].get(role)
        wanted = _words_for(expected, closing)
        if expected == _TERM and len(levels) >= _DEEPEST:
            after, wanted = None, f"at most {_DEEPEST} levels of brackets and nots"
        elif terms > _MOST_TERMS:
            after, wanted = None, f"at most {_MOST_TERMS} comparisons"
        elif values > _MOST_VALUES:
            after, wanted = None, f"at most {_MOST_VALUES} values in lists"
        if after is None or (role in (")", "]", "end") and role != closing):
            raise _error(text, token.place, wanted)
        in_list = expected in (_LIST, _ITEM, _COMMA)
        values += in_list and role == "value"
        if role in _CLOSING:
            levels.append(_CLOSING[role])
        elif role == "not" and expected == _TERM:
            levels.append(role)
        elif role == closing != "end":
            levels.pop()
        while after in (_DONE, _BETWEEN) and levels[-1:] == ["not"]:
            levels.pop()
        name = f"t{number}"
        written = {"value": name, "column": name, "operator": token.value, "end": ""}
        if in_list:  # in Python (t0) is no list
            written |= {"(": "[", ")": "]"}
        yield written.get(role, role)
        expected = after


def _words_for(expected: str, closing: str) -> str:
    """Say in words what the grammar expects at a place."""
    if expected in (_DONE, _BETWEEN):
        return _DONE if closing == "end" else "')'"
    if expected in (_VALUE, _ITEM):
        return "a number, or a text in quotes"
    return f"',' or '{closing}'" if expected == _COMMA else expected


def _filter_of(node: ast.expr, tokens: list[_Token]) -> Filter:
    match node:
        case ast.BoolOp(op, values):
            parts = tuple(_filter_of(value, tokens) for value in values)
            return And(parts) if isinstance(op, ast.And) else Or(parts)
        case ast.UnaryOp(ast.Not(), operand):
            return Not(_filter_of(operand, tokens))
        case ast.Compare(left, [ast.In() | ast.NotIn() as op], [ast.List(items)]):
            values = tuple(_token(item, tokens).value for item in items)
            return Membership(_token(left, tokens).value, values, isinstance(op, ast.NotIn))
        case ast.Compare(left, ops, comparators):
            signs = [_SIGNS[type(op)] for op in ops]
            first, *others = [_token(operand, tokens) for operand in (left, *comparators)]
            if first.role == "column":
                return Comparison(first.value, signs[0], others[0].value)
            column = others[0].value
            low = Comparison(column, _MIRRORED[signs[0]], first.value)
            if len(others) == 1:
                return low
            return And((low, Comparison(column, signs[1], others[1].value)))
    raise TypeError(f"{type(node).__name__} is no part of a filter")


def _token(node: ast.expr, tokens: list[_Token]) -> _Token:
    """Return the token that a name in the Python source stands for."""
    match node:
        case ast.Name(name):
            return tokens[int(name[1:])]
    raise TypeError(f"{type(node).__name__} is no column and no value")


def _error(text: str, place: int, expected: str) -> ValueError:
    found = repr(text[place : place + 20]) if text[place:].strip() else "the end"
    return ValueError(
        f"The filter {text[:200]!r} is not understood at character {place + 1}: expected "
        f'{expected}, found {found}. An example: price < 80 and brand in ["a", "b"]'
    )
