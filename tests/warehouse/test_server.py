"""What is asked of a Postgres that is only started or checked."""

from __future__ import annotations

import pytest

from llmser_tasks.core.errors import StorageError
from llmser_tasks.warehouse import server

NOWHERE = "postgresql://llmser:secret@127.0.0.1:9/llmser"  # the discard port, where nobody listens


def test_a_server_says_its_version_and_whether_it_has_a_warehouse(database_url: str) -> None:
    found = server.look(database_url)
    assert found.version[0].isdigit()
    assert found.migrated
    assert server.answers(database_url)


def test_where_nobody_listens_nobody_answers() -> None:
    assert not server.answers(NOWHERE)
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:9"):
        server.look(NOWHERE)


def test_a_comment_on_a_database_comes_back_as_it_was_given(database_url: str) -> None:
    assert server.comment(database_url) is None
    given = "migrated by somebody's % release; drop table runs"
    server.set_comment(database_url, given)
    assert server.comment(database_url) == given
