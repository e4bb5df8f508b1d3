"""Filters: the language, its errors, and the rows they find against Python's own judgement."""

from __future__ import annotations

import pytest
import torch
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.store.filters import (
    And,
    Comparison,
    Filter,
    Membership,
    Not,
    Or,
    number_of,
    parse_filter,
)
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.store.records import Records
from hypothesis import given, settings
from hypothesis import strategies as st

PRICE = Comparison("price", "<", 80)
BRAND = Membership("brand", ("a", "b"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('price < 80 and brand in ["a", "b"]', And((PRICE, BRAND))),
        ("price<80 AND brand IN ('a','b')", And((PRICE, BRAND))),
        ("not (price < 80 or brand in ['a', 'b'])", Not(Or((PRICE, BRAND)))),
        ("brand not in ['a']", Membership("brand", ("a",), True)),
        ("brand in []", Membership("brand", ())),
        ("x == 1.5e3", Comparison("x", "=", 1500.0)),
        ("x <> -2", Comparison("x", "!=", -2)),
        ("x=.5", Comparison("x", "=", 0.5)),
        ("80 > price", PRICE),
        ("'m' = size", Comparison("size", "=", "m")),
        (
            "10 <= price < 80",
            And((Comparison("price", ">=", 10), Comparison("price", "<", 80))),
        ),
        (r"x = 'it\'s \\ \"so\"'", Comparison("x", "=", 'it\'s \\ "so"')),
        ("`sleeve length` = 'long'", Comparison("sleeve length", "=", "long")),
        ("`a``b` = 1", Comparison("a`b", "=", 1)),
        ("`and` = 1", Comparison("and", "=", 1)),
        ("Größe = 'M'", Comparison("Größe", "=", "M")),
        ("in_stock = true", Comparison("in_stock", "=", "true")),
        (
            "a = 1 or b = 2 and not c = 3",
            Or(
                (
                    Comparison("a", "=", 1),
                    And((Comparison("b", "=", 2), Not(Comparison("c", "=", 3)))),
                )
            ),
        ),
    ],
)
def test_language(text, expected):
    assert parse_filter(text) == expected == parse_filter(f"  ( {text} )\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: expected a column.*found the end"),
        ("price", "character 6: expected a comparison.*found the end"),
        ("price < ", "a number, or a text in quotes, found the end"),
        ("price < cheap", "character 9: .*text in quotes, found 'cheap'"),
        ("price < 80 brand = 'a'", "character 12: expected 'and', 'or' or the end"),
        ("(price < 80", r"expected '\)', found the end"),
        ("brand in 'a'", r"a list such as \[1, 2\]"),
        ("brand in ['a' 'b']", r"expected ',' or '\]'"),
        ("brand not 'a'", "expected 'in'"),
        ("1 < 2", "expected a column, found '2'"),
        ("x = 'open", "character 5: "),
        ("1; DROP TABLE garments", "an operator or a value, found '; DROP"),
        ("price < 80 -- and", "found '-- and'"),
        ("12abc = 1", "character 1: .*found '12abc"),
        ("(" * 60 + "a=1" + ")" * 60, "at most 50 levels"),
        ("not " * 60 + "a=1", "at most 50 levels"),
        (" and ".join(["a=1"] * 501), "at most 500 comparisons"),
        (f"a in [{'1,' * 10_001}]", "at most 10000 values"),
    ],
)
def test_what_is_no_filter(text, message):
    with pytest.raises(ValueError, match=message):
        parse_filter(text)


@given(st.text(max_size=40))
@settings(max_examples=200)
def test_any_text_is_parsed_or_refused(text):
    try:
        found = parse_filter(text)
    except ValueError as error:
        assert "is not understood at character" in str(error)
    else:
        assert isinstance(found, Filter)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[("12", 12), ("-1.5", -1.5), ("1e3", 1000), (".5", 0.5), ("007", 7)],
        *[(t, None) for t in ("", "12 cm", "1,5", "nan", "inf", "1_000", "٣", "0x1", " 1")],
    ],
)
def test_texts_that_are_numbers(text, number):
    assert number_of(text) == number


def test_values_never_become_sql():
    """Names and values that look like SQL are looked for, and not run."""
    evil = '"; DROP TABLE garments; --'
    records = Records.in_memory(
        [Garment("a", "a.jpg", metadata={evil: evil, "Price": "1", "price": "2"})]
    )
    sql, parameters = Comparison("x", "=", evil).to_sql()
    assert evil not in sql and parameters == [evil]
    assert records.rows_where(Comparison(evil, "=", evil)).tolist() == [0]
    assert records.rows_where(Membership(evil, (evil, 3))).tolist() == [0]
    assert records.rows_where(parse_filter("Price = 1 and price = 2")).tolist() == [0]
    index = GarmentIndex.in_memory([Garment("a", "a.jpg")], torch.ones(1, 2))
    with pytest.raises(ValueError, match="column 'row'"):
        index.rows_where(parse_filter("row = 0"))
    assert records.rows_where(parse_filter("row = 0 or bytes = 0 or metadata != ''")).size == 0


COLUMNS = ("brand", "Brand", "price", "sleeve length", "category", "id")
VALUES = ("", "a", "A", "b", "1", "1.0", "2", "-3", "10", "1e1", "é", "\udce9", "it's", "%", "a b")
operators = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
values = st.sampled_from([*VALUES, 1, 1.5, -3, 10, 2.0])
terms = st.one_of(
    st.builds(Comparison, st.sampled_from(COLUMNS), operators, values),
    st.builds(
        Membership,
        st.sampled_from(COLUMNS),
        st.lists(values, max_size=4).map(tuple),
        st.booleans(),
    ),
)
filters = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)
texts = st.sampled_from(VALUES)
rows = st.lists(st.tuples(texts, texts, texts, texts, texts), min_size=1, max_size=8, unique=True)


def holds(condition: Filter, columns: dict[str, str]) -> bool:
    match condition:
        case And(parts):
            return all(holds(part, columns) for part in parts)
        case Or(parts):
            return any(holds(part, columns) for part in parts)
        case Not(part):
            return not holds(part, columns)
        case Membership(column, wanted, negated):
            found = any(holds(Comparison(column, "=", value), columns) for value in wanted)
            return found != negated
        case Comparison(column, op, value):
            text = columns[column]
            if value == "":
                return {"=": not text, "!=": bool(text), ">": bool(text), ">=": bool(text)}.get(
                    op, False
                )
            own = text if isinstance(value, str) else number_of(text)
            if not text or own is None:
                return op == "!="
            if isinstance(value, str):
                own, value = (t.encode("utf-8", "surrogatepass") for t in (own, value))
            return {
                "=": own == value,
                "!=": own != value,
                "<": own < value,
                "<=": own <= value,
                ">": own > value,
                ">=": own >= value,
            }[op]


@given(filters, rows)
@settings(max_examples=300, deadline=None)
def test_rows_against_python(condition, table):
    garments = [
        Garment(f"id {number}", "x.jpg", line[0], "", dict(zip(COLUMNS, line[1:], strict=False)))
        for number, line in enumerate(table)
    ]
    expected = [
        number
        for number, garment in enumerate(garments)
        if holds(condition, {**garment.metadata, "category": garment.category, "id": garment.id})
    ]
    assert Records.in_memory(garments).rows_where(condition).tolist() == expected


def spelt(condition: Filter) -> str:
    """A filter in the language, every name in backquotes and every part in brackets."""
    match condition:
        case And(parts) | Or(parts):
            word = " and " if isinstance(condition, And) else " OR "
            return word.join(f"({spelt(part)})" for part in parts)
        case Not(part):
            return f"not ({spelt(part)})"
        case Membership(column, wanted, negated):
            word = "not in" if negated else "in"
            return f"`{column}` {word} [{', '.join(map(literal, wanted))}]"
        case Comparison(column, op, value):
            return f"`{column}` {op} {literal(value)}"


def literal(value) -> str:
    if not isinstance(value, str):
        return repr(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@given(filters)
@settings(max_examples=200)
def test_what_is_written_is_read(condition):
    assert parse_filter(spelt(condition)) == condition


def test_what_pythons_parser_would_refuse_or_read_otherwise():
    """Python's keywords as columns, ligatures that its names lose, and its own escapes."""
    assert parse_filter("class = 1 and None = 'x'").columns() == {"class", "None"}
    assert parse_filter("ﬁt = 1").columns() == {"ﬁt"}
    assert parse_filter(r"a = '\n\x41'") == Comparison("a", "=", "nx41")
    assert parse_filter("a = 007") == Comparison("a", "=", 7)
    assert parse_filter("a =\n 1\n or b\n in (1)").columns() == {"a", "b"}
    for text in ("__import__('os').system('x') = 1", "a = f'{b}'", "a = [1][0]", "(a := 1) = 1"):
        with pytest.raises(ValueError, match="is not understood at character"):
            parse_filter(text)
    with pytest.raises(ValueError, match="character 3: expected a comparison"):
        parse_filter("a 'in' [1]")
