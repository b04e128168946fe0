"""The two databases of a server and their owners."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from llmser_tasks.core.errors import StorageError
from llmser_tasks.postgres.home import ADMIN, DATABASES
from llmser_tasks.postgres.server import Server


def prepare(server: Server) -> None:
    """Make sure that this is our server and that it has both databases."""
    try:
        with closing(_connect(server)) as connection, connection.cursor() as cursor:
            cursor.execute("show data_directory")
            answering = cursor.fetchone()
            if answering is None or Path(answering[0]) != server.data:
                raise StorageError(f"Another Postgres answers at 127.0.0.1:{server.port}; stop it and try again.")
            cursor.execute("select rolname from pg_roles")
            roles = {name for (name,) in cursor.fetchall()}
            cursor.execute("select datname from pg_database")
            databases = {name for (name,) in cursor.fetchall()}
            for name in DATABASES:
                identifier = sql.Identifier(name)
                if name not in roles:  # only the hash travels, so no log can hold the password
                    hashed = encrypt_password(server.passwords[name], name, connection, "scram-sha-256")
                    cursor.execute(sql.SQL("create role {} login password %s").format(identifier), [hashed])
                if name not in databases:
                    cursor.execute(sql.SQL("create database {} owner {}").format(identifier, identifier))
                cursor.execute(sql.SQL("revoke all on database {} from public").format(identifier))
    except psycopg2.Error as error:
        said = str(error).strip().splitlines() or ["no answer"]
        raise StorageError(f"Postgres at 127.0.0.1:{server.port} cannot be used: {said[0]}") from None


def _connect(server: Server) -> psycopg2.extensions.connection:
    connection = psycopg2.connect(
        host="127.0.0.1", port=server.port, dbname="postgres", user=ADMIN, password=server.passwords[ADMIN],
        connect_timeout=10,
    )  # fmt: skip
    connection.autocommit = True
    return connection
