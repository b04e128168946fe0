"""Many rows into a table at once: COPY, with every text escaped, whatever it holds."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from psycopg2 import extensions, sql
from sqlalchemy import Connection

BLOCK = 1 << 16
_SPECIAL = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_QUOTED = str.maketrans({"\\": "\\\\", '"': '\\"'})


def copy_rows(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Append rows in the caller's transaction, streaming; returns how many.

    Strings, numbers (numpy's too), booleans, dates and None go into scalar columns, lists and arrays into array
    columns, mappings into jsonb. Text arrives unchanged, but for what Postgres cannot hold: a NUL character and half
    a surrogate pair become U+FFFD.
    """
    cursor = cursor_of(connection)
    command = sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    cursor.copy_expert(command.as_string(cursor), _Lines("\t".join(map(field, row)) + "\n" for row in rows), BLOCK)
    return int(cursor.rowcount)


def replace_rows(
    connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], **where: Any
) -> int:
    """Delete the rows that `where` names (a list means any of its values), then append the new ones.

    Made for reruns: in the caller's transaction nothing is doubled and nothing is lost.
    """
    conditions = [
        sql.SQL("{} = any(%s)" if isinstance(value, list) else "{} = %s").format(sql.Identifier(name))
        for name, value in where.items()
    ]
    cursor = cursor_of(connection)
    statement = sql.SQL("delete from {} where {}").format(sql.Identifier(table), sql.SQL(" and ").join(conditions))
    cursor.execute(statement, list(where.values()))
    return copy_rows(connection, table, columns, rows)


def take_over_rows(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    key: Sequence[str],
    run_id: str,
    earlier: str,
    user_ids: Collection[str],
) -> int:
    """Give a run the rows that an earlier one has of these users, in place of its own; returns how many.

    Args:
        columns: of the table, `run_id` among them.
        key: those of its primary key.
    """
    cursor = cursor_of(connection)
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    given = sql.SQL(", ").join(sql.Placeholder() if name == "run_id" else sql.Identifier(name) for name in columns)
    fresh = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in columns if name not in key]
    statement = sql.SQL(
        "insert into {table} ({names}) select {given} from {table} where run_id = %s and user_id = any(%s)"
        " on conflict ({key}) do update set {fresh}"
    ).format(
        table=sql.Identifier(table),
        names=names,
        given=given,
        key=sql.SQL(", ").join(map(sql.Identifier, key)),
        fresh=sql.SQL(", ").join(fresh),
    )
    cursor.execute(statement, [run_id, earlier, list(user_ids)])
    return int(cursor.rowcount)


def cursor_of(connection: Connection) -> extensions.cursor:
    """The driver's own cursor, in the same transaction."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, extensions.connection)
    return raw.cursor()


class _Lines(io.RawIOBase):
    """A file made of lines as they are asked for."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines = lines
        self.rest = b""

    def read(self, size: int = -1) -> bytes:
        parts, length = [self.rest], len(self.rest)
        while size < 0 or length < size:
            line = next(self.lines, None)
            if line is None:
                break
            parts.append(line.encode())
            length += len(parts[-1])
        whole = b"".join(parts)
        size = len(whole) if size < 0 else size
        self.rest = whole[size:]
        return whole[:size]


def field(value: Any) -> str:
    """One value in COPY's text format."""
    if value is None:
        return "\\N"
    return _plain(value).translate(_SPECIAL)


def storable(text: str) -> str:
    """The text without what Postgres cannot hold."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text


def storable_json(value: Any) -> str:
    """JSON that a jsonb column takes."""
    return json.dumps(_cleaned(value), ensure_ascii=False, allow_nan=False)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(str(key)): _cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return storable(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        value = value.tolist()
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return storable_json(value)
    if isinstance(value, (list, tuple)):
        return "{" + ",".join(map(_element, value)) + "}"
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def _element(value: Any) -> str:
    return "NULL" if value is None else f'"{_plain(value).translate(_QUOTED)}"'
