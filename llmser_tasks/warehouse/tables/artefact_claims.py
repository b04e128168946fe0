"""Who makes which artefact right now, so that machines that share a folder make each only once.

A claim is a row that names its owner, and the owner is alive as long as its connection holds an advisory lock (as with
claims on questions, `llm.fleet.claims`): a killed worker's claims are free the moment Postgres notices. If
Postgres itself goes away, an owner works on: what it makes lies in a folder of its own (`attempts`) and is published
whole.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import Connection, text

from llmser_tasks.core.attempts import Claim
from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import engine, translated

log = logging.getLogger(__name__)

LOCKS = 0x415246  # class of our advisory locks
POLL_S = 0.5

_LIVE = text("select pg_advisory_lock(:locks, :owner)")
_PATIENT = text("""
    select set_config(name, '0', false) from pg_settings where name = 'idle_session_timeout' -- a training takes hours
""")
_REGISTER = text("select system_identifier || ' ' || current_database() from pg_control_system()")
_TAKE = text("""
    insert into artefact_claims as c (path, owner) values (:path, :owner)
    on conflict (path) do update set owner = excluded.owner
        where pg_try_advisory_xact_lock(:locks, c.owner) -- nobody's any more
    returning path
""")
_GIVE_UP = text("delete from artefact_claims where path = :path and owner = :owner")
_GONE = text("select pg_try_advisory_xact_lock(:locks, :owner)")


@dataclass(frozen=True)
class Claims:
    """The register in one warehouse, as `workspace` takes it."""

    warehouse: Warehouse

    @contextmanager
    def claim(self, what: str) -> Iterator[Claim]:
        """Wait until nobody alive makes this, and hold it for the block.

        Raises:
            StorageError: Postgres is down.
        """
        number = secrets.randbits(31)
        claimed = {"path": what, "owner": number}
        with translated(self.warehouse.url):
            connection = _connected(self.warehouse, number)
        try:
            with translated(self.warehouse.url):
                register = hashlib.sha256(str(connection.scalar(_REGISTER)).encode()).hexdigest()[:8]
                told = False
                while connection.scalar(_TAKE, claimed | {"locks": LOCKS}) is None:
                    if not told:
                        log.info("Another process makes %s: waiting for it", what)
                    told = True
                    time.sleep(POLL_S)
            yield _Claim(self.warehouse, connection, register, number)
        finally:
            with suppress(StorageError), translated(self.warehouse.url):  # it ends with the connection in any case
                connection.execute(_GIVE_UP, claimed)
            with suppress(StorageError), translated(self.warehouse.url):
                connection.close()


@dataclass(frozen=True)
class _Claim:
    warehouse: Warehouse
    connection: Connection
    register: str  # of this warehouse alone: elsewhere the same number may live
    number: int

    @property
    def owner(self) -> str:
        return f"{self.register}.{self.number}"

    def lives(self, owner: str) -> bool | None:
        register, _, number = owner.partition(".")
        if register != self.register or not number.isdecimal():
            return None
        with translated(self.warehouse.url):
            return not self.connection.scalar(_GONE, {"locks": LOCKS, "owner": int(number)})


def _connected(warehouse: Warehouse, owner: int) -> Connection:
    """A connection that is not of the pool, so that the owner's lock ends with it."""
    connection = engine(warehouse).connect().execution_options(isolation_level="AUTOCOMMIT")
    connection.detach()
    connection.execute(_PATIENT)
    connection.execute(_LIVE, {"locks": LOCKS, "owner": owner})
    return connection
