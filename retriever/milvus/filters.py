"""Filters as Milvus expressions, true of a garment exactly where the filter itself is.

A column of the catalogue's table is one field of texts, "" where a garment has no value, and, where
any of its values is a number, one field of numbers, MISSING where a value is none. Nothing is null,
so no condition is neither true nor false. User's values never enter an expression: they are its
parameters.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..store.filters import And, Comparison, Filter, Membership, Not, Or, Value, is_number

MISSING = -sys.float_info.max
"""Stands for no number; Milvus takes neither NaN nor infinity."""

ALL, NONE = "row >= 0", "row < 0"

_LOWEST = math.nextafter(MISSING, 0)
_OPERATORS = {"=": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


class Fields(NamedTuple):
    """The fields that hold a column: one of texts, and one of numbers, None without numbers."""

    text: str
    number: str | None


def to_expression(condition: Filter, columns: Mapping[str, Fields]) -> tuple[str, dict[str, Any]]:
    """Translate a filter into a Milvus expression with its template parameters.

    Raises:
        ValueError: the filter names a column that there isn't.
    """
    if unknown := sorted(condition.columns() - set(columns)):
        raise ValueError(
            f"The filter asks for the column {unknown[0]!r}; the garments have: "
            f"{', '.join(columns)}."
        )
    parameters: dict[str, Any] = {}
    return _translate(condition, columns, parameters), parameters


def inlined(expression: str, parameters: Mapping[str, Any]) -> str:
    """Return the expression with its parameters as literals, for servers that take none."""
    return re.sub(r"\{(\w+)\}", lambda match: _literal(parameters[match[1]]), expression)


def stored_text(text: str) -> str:
    """Return a text as it is stored.

    Milvus takes valid Unicode alone; file names may hold other bytes. These sort after all others,
    as they do in a local index.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return "\U0010ffff" + text.encode("utf-8", "backslashreplace").decode()
    return text


def stored_number(number: float | None) -> float:
    """Return a number as it is stored; MISSING for None."""
    return MISSING if number is None else min(max(number, _LOWEST), sys.float_info.max)


def _translate(condition: Filter, columns: Mapping[str, Fields], parameters: dict[str, Any]) -> str:
    match condition:
        case And(parts) | Or(parts):
            word = " and " if isinstance(condition, And) else " or "
            return word.join(f"({_translate(part, columns, parameters)})" for part in parts)
        case Not(part):
            return f"not ({_translate(part, columns, parameters)})"
        case Comparison(column, op, value):
            return _comparison(columns[column], op, value, parameters)
        case Membership(column, values, negated):
            inside = _membership(columns[column], values, parameters)
            return f"not ({inside})" if negated else inside
    raise TypeError(f"{type(condition).__name__} is no filter")


def _comparison(fields: Fields, op: str, value: Value, parameters: dict[str, Any]) -> str:
    if value == "":
        # "" stands for a missing value, which is neither below nor above any other.
        if op in ("<", "<="):
            return NONE
        return f'{fields.text} {"==" if op == "=" else "!="} ""'
    field, missing = (fields.number, MISSING) if is_number(value) else (fields.text, "")
    if field is None:
        return ALL if op == "!=" else NONE
    compared = f"{field} {_OPERATORS[op]} {_parameter(value, parameters)}"
    if op in ("<", "<="):
        # Missing values are stored as the lowest one, of which < and <= alone would be true.
        parameters[f"p{len(parameters)}"] = missing
        return f"{compared} and {field} > {{p{len(parameters) - 1}}}"
    return compared


def _membership(fields: Fields, values: Iterable[Value], parameters: dict[str, Any]) -> str:
    values = list(values)
    texts = [value for value in values if not is_number(value)]
    numbers = [value for value in values if is_number(value)]
    parts = []
    if texts:  # "" is how a missing value is stored
        parts.append(f"{fields.text} in {_parameter(texts, parameters)}")
    if numbers and fields.number is not None:
        parts.append(f"{fields.number} in {_parameter(numbers, parameters)}")
    return " or ".join(f"({part})" for part in parts) or NONE


def _parameter(value: Value | list[Value], parameters: dict[str, Any]) -> str:
    name = f"p{len(parameters)}"
    parameters[name] = [*map(_stored, value)] if isinstance(value, list) else _stored(value)
    return f"{{{name}}}"


def _stored(value: Value) -> str | float:
    return stored_number(float(value)) if is_number(value) else stored_text(value)


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return f'"{value.translate(_ESCAPES)}"' if isinstance(value, str) else repr(value)
