"""COPY: whatever a text holds, it arrives; a rerun replaces."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import copy_rows, replace_rows, storable

HOSTILE = [
    "",
    "\\N",
    "\\.",
    "NULL",
    'a"b',
    "back\\slash\\",
    "tab\tnew\nline\rreturn",
    "{curly,}",
    "'; drop table runs; --",
    "%s %(x)s :x",
    "<script>alert(1)</script>",
    "\x1b[31mred\x07",
    "\u202eright to left\u200b",
    "💣 ünïcödé 漢字",
    " leading and trailing ",
    "=HYPERLINK(1)",
]


def test_hostile_text_arrives_unchanged_in_texts_and_arrays(warehouse: Warehouse) -> None:
    with transaction(warehouse) as connection:
        connection.execute(text("create temp table t (n int, x text, many text[])"))
        rows = [(n, value, [value, None, value]) for n, value in enumerate(HOSTILE)]
        assert copy_rows(connection, "t", ["n", "x", "many"], iter(rows)) == len(HOSTILE)
        found = connection.execute(text("select n, x, many from t order by n")).all()
        assert [tuple(row) for row in found] == rows
        assert connection.scalar(text("select count(*) from runs")) == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(), max_size=5))
def test_any_text_arrives(warehouse: Warehouse, values: list[str]) -> None:
    kept = [storable(value) for value in values]
    with transaction(warehouse) as connection:
        connection.execute(text("create temp table any_text (x text, many text[])"))
        copy_rows(connection, "any_text", ["x", "many"], [(" ".join(values), values)])
        row = connection.execute(text("select x, many from any_text")).one()
        connection.execute(text("drop table any_text"))
    assert (row.x, row.many) == (" ".join(kept), kept)


def test_what_postgres_cannot_hold_is_marked() -> None:
    assert storable("a\0b\ud800c") == "a\ufffdb\ufffdc"
    assert storable("💣") == "💣"


def test_every_kind_of_value(warehouse: Warehouse) -> None:
    moment = datetime(2024, 2, 29, 12, tzinfo=UTC)
    with transaction(warehouse) as connection:
        connection.execute(
            text("create temp table k (i int, f float8, g float8, b boolean, j jsonb, t timestamptz, r real[], n text)")
        )
        row = (
            np.int32(7), np.float64(0.1), float("inf"), np.bool_(True), {"a": [1, None, "\0\t"], "b": float("nan")},
            moment, np.array([0.5, 2], np.float32), None,
        )  # fmt: skip
        copy_rows(connection, "k", list("ifgbjtrn"), [row])
        found = connection.execute(text("select * from k")).one()
    assert tuple(found) == (
        7,
        0.1,
        float("inf"),
        True,
        {"a": [1, None, "\ufffd\t"], "b": None},
        moment,
        [0.5, 2.0],
        None,
    )


def test_many_rows_stream(warehouse: Warehouse) -> None:
    with transaction(warehouse) as connection:
        connection.execute(text("create temp table many (n int, x text)"))
        assert copy_rows(connection, "many", ["n", "x"], ((n, "x" * 50) for n in range(20_000))) == 20_000
        assert connection.scalar(text("select sum(n) from many where length(x) = 50")) == 199_990_000
        assert copy_rows(connection, "many", ["n", "x"], []) == 0


def test_replacing_touches_only_what_is_named(warehouse: Warehouse) -> None:
    with transaction(warehouse) as connection:
        connection.execute(text("create temp table p (run text, who text, x int)"))
        copy_rows(connection, "p", ["run", "who", "x"], [("r", "a", 1), ("r", "b", 1), ("s", "a", 1)])
        for _ in range(2):
            replace_rows(connection, "p", ["run", "who", "x"], [("r", "a", 2)], run="r", who=["a", "c"])
        assert connection.execute(text("select run, who, x from p order by 1, 2")).all() == [
            ("r", "a", 2), ("r", "b", 1), ("s", "a", 1),
        ]  # fmt: skip


def test_a_bad_row_leaves_nothing(warehouse: Warehouse) -> None:
    with pytest.raises(Exception, match="invalid input syntax"), transaction(warehouse) as connection:
        copy_rows(
            connection,
            "runs",
            ["run_id", "dataset", "config", "code_version"],
            [("r", "d", {}, "1"), ("s", "d", "{", "1")],
        )
    with transaction(warehouse) as connection:
        assert connection.scalar(text("select count(*) from runs")) == 0
