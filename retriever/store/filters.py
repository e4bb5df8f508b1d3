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

import re
from collections.abc import Iterator
from dataclasses import dataclass

Value = str | int | float

OPERATORS = ("=", "!=", "<", "<=", ">", ">=")

_MOST_TERMS = 500  # SQLite refuses expressions of a depth of 1000
_MOST_VALUES = 10_000  # and more than some 32,000 parameters
_DEEPEST = 50

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
_KEYWORDS = ("and", "or", "not", "in", "true", "false")
_MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


class Filter:
    """A condition on a garment's columns; see Comparison, Membership, And, Or and Not."""

    def to_sql(self) -> tuple[str, list[Value | bytes]]:
        """An SQL condition on the columns that `sql_column` names, and its parameters.

        It is true or not true (false or NULL) of a garment exactly as the filter is.
        """
        raise NotImplementedError

    def columns(self) -> set[str]:
        """The catalogue's columns that the filter looks at."""
        return {term.column for term in self._terms()}

    def _terms(self) -> Iterator[Comparison | Membership]:
        raise NotImplementedError


@dataclass(frozen=True)
class Comparison(Filter):
    """`column op value`; op is one of OPERATORS."""

    column: str
    op: str
    value: Value

    def to_sql(self) -> tuple[str, list[Value | bytes]]:
        name = sql_column(self.column, is_number(self.value))
        if self.value == "":
            # There is no value to compare with: a missing one sorts nowhere.
            sql = {"=": f"{name} IS NULL", "!=": f"{name} IS NOT NULL", ">": f"{name} IS NOT NULL"}
            sql[">="] = sql[">"]
            return sql.get(self.op, "0"), []
        op = {"=": "IS", "!=": "IS NOT"}.get(self.op, self.op)
        return f"{name} {op} ?", [sql_value(self.value)]

    def _terms(self) -> Iterator[Comparison | Membership]:
        yield self


@dataclass(frozen=True)
class Membership(Filter):
    """`column in [values]`, or `not in`."""

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

    def _terms(self) -> Iterator[Comparison | Membership]:
        yield self


@dataclass(frozen=True)
class And(Filter):
    """All of `parts`."""

    parts: tuple[Filter, ...]

    def to_sql(self) -> tuple[str, list[Value | bytes]]:
        return _joined(" AND ", self.parts)

    def _terms(self) -> Iterator[Comparison | Membership]:
        for part in self.parts:
            yield from part._terms()


@dataclass(frozen=True)
class Or(Filter):
    """Any of `parts`."""

    parts: tuple[Filter, ...]

    def to_sql(self) -> tuple[str, list[Value | bytes]]:
        return _joined(" OR ", self.parts)

    def _terms(self) -> Iterator[Comparison | Membership]:
        for part in self.parts:
            yield from part._terms()


@dataclass(frozen=True)
class Not(Filter):
    """The opposite of `part`."""

    part: Filter

    def to_sql(self) -> tuple[str, list[Value | bytes]]:
        sql, parameters = self.part.to_sql()
        return f"({sql}) IS NOT TRUE", parameters

    def _terms(self) -> Iterator[Comparison | Membership]:
        return self.part._terms()


def parse_filter(text: str) -> Filter:
    """The filter that a text says; see the module for the language.

    Raises:
        ValueError: the text is not a filter; the message shows where.
    """
    return _Parser(text).parse()


def is_number(value: Value) -> bool:
    return not isinstance(value, str)


def number_of(text: str) -> float | None:
    """The number that a column's text is, None where it is none: how `number` columns are made."""
    return float(text) if _NUMBER_ALONE.fullmatch(text) else None


def sql_column(column: str, number: bool) -> str:
    """The quoted SQL name of a column's texts, or of those of its values that are numbers.

    SQLite compares names without regard to case; what it could confuse or misread is escaped.
    """
    safe = re.sub(r"[^a-z0-9_ ]", lambda match: f"%{ord(match[0]):x}.", column)
    return f'"{"number" if number else "text"}:{safe}"'


def sql_value(value: Value) -> Value | bytes:
    """A value as SQLite stores it; texts that are no UTF-8 (odd file names) become bytes."""
    if is_number(value):
        return float(value)
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")
    return value


def _joined(word: str, parts: tuple[Filter, ...]) -> tuple[str, list[Value | bytes]]:
    conditions, parameters = [], []
    for part in parts:
        sql, values = part.to_sql()
        conditions.append(f"({sql})")
        parameters += values
    return word.join(conditions), parameters


@dataclass(frozen=True)
class _Token:
    kind: str  # number, text, column, word, operator, mark, end
    value: Value
    place: int


class _Parser:
    def __init__(self, text: str):
        self.text = text
        self.tokens = list(self._read())
        self.next = 0
        self.depth = self.terms = self.values = 0

    def parse(self) -> Filter:
        result = self._any()
        if self._peek().kind != "end":
            self._fail("'and', 'or' or the end")
        return result

    def _read(self) -> Iterator[_Token]:
        place = 0
        while place < len(self.text.rstrip()):
            match = _TOKEN.match(self.text, place)
            if match is None:
                start = place + len(self.text[place:]) - len(self.text[place:].lstrip())
                raise self._error(start, "a column, an operator or a value")
            kind, word = match.lastgroup, match[match.lastgroup]
            start = match.start(kind)
            if kind == "number":
                yield _Token(kind, float(word) if set(word) & set(".eE") else int(word), start)
            elif kind == "text":
                yield _Token(kind, re.sub(r"\\(.)", r"\1", word[1:-1], flags=re.DOTALL), start)
            elif kind == "quoted":
                yield _Token("column", word[1:-1].replace("``", "`"), start)
            elif kind == "word" and word.lower() not in _KEYWORDS:
                yield _Token("column", word, start)
            elif kind == "word" and word.lower() in ("true", "false"):
                yield _Token("text", word.lower(), start)
            elif kind == "operator":
                yield _Token(kind, {"==": "=", "<>": "!="}.get(word, word), start)
            else:
                yield _Token(kind, word.lower(), start)
            place = match.end()
        yield _Token("end", "", len(self.text))

    def _any(self) -> Filter:
        return self._chain("or", self._all, Or)

    def _all(self) -> Filter:
        return self._chain("and", self._one, And)

    def _chain(self, word: str, part, kind) -> Filter:
        parts = [part()]
        while self._take("word", word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else kind(tuple(parts))

    def _one(self) -> Filter:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self._error(self._peek().place, f"at most {_DEEPEST} levels of brackets and nots")
        if self._take("word", "not"):
            result = Not(self._one())
        elif self._take("mark", "("):
            result = self._any()
            self._need("mark", ")")
        else:
            result = self._term()
        self.depth -= 1
        return result

    def _term(self) -> Filter:
        self.terms += 1
        if self.terms > _MOST_TERMS:
            raise self._error(self._peek().place, f"at most {_MOST_TERMS} comparisons")
        if self._peek().kind in ("number", "text"):
            return self._turned()
        column = self._need("column", None, "a column, 'not' or '('")
        negated = self._take("word", "not")
        if negated or self._peek().value == "in":
            self._need("word", "in")
            return Membership(column, self._list(), negated)
        op = self._need("operator", None, "a comparison (= != < <= > >=) or 'in'")
        return Comparison(column, op, self._value())

    def _turned(self) -> Filter:
        """`10 <= price` and `10 <= price < 80`."""
        low = self._value()
        op = self._need("operator", None, "a comparison (= != < <= > >=)")
        column = self._need("column", None, "a column")
        first = Comparison(column, _MIRRORED[op], low)
        if self._peek().kind != "operator":
            return first
        op = self._need("operator", None)
        return And((first, Comparison(column, op, self._value())))

    def _list(self) -> tuple[Value, ...]:
        closing = ")" if self._take("mark", "(") else "]"
        if closing == "]":
            self._need("mark", "[", "a list such as [1, 2]")
        values = []
        while not self._take("mark", closing):
            values.append(self._value())
            self.values += 1
            if self.values > _MOST_VALUES:
                raise self._error(self._peek().place, f"at most {_MOST_VALUES} values in lists")
            if self._peek().value != closing:
                self._need("mark", ",", f"',' or '{closing}'")
        return tuple(values)

    def _value(self) -> Value:
        if self._peek().kind not in ("number", "text"):
            self._fail("a number, or a text in quotes")
        self.next += 1
        return self.tokens[self.next - 1].value

    def _peek(self) -> _Token:
        return self.tokens[self.next]

    def _take(self, kind: str, value: str) -> bool:
        token = self._peek()
        found = token.kind == kind and token.value == value
        self.next += found
        return found

    def _need(self, kind: str, value: str | None, expected: str | None = None) -> str:
        token = self._peek()
        if token.kind != kind or (value is not None and token.value != value):
            self._fail(expected or repr(value))
        self.next += 1
        return token.value

    def _fail(self, expected: str) -> None:
        raise self._error(self._peek().place, expected)

    def _error(self, place: int, expected: str) -> ValueError:
        found = repr(self.text[place : place + 20]) if self.text[place:].strip() else "the end"
        return ValueError(
            f"The filter {self.text[:200]!r} is not understood at character {place + 1}: expected "
            f'{expected}, found {found}. An example: price < 80 and brand in ["a", "b"]'
        )
