"""`llmser serve-ranker`"""

from __future__ import annotations

import os
from typing import Any

import click

from llmser_tasks.core import environment
from llmser_tasks.core.console import echo
from llmser_tasks.ranker import server
from llmser_tasks.services import secret_store

KEY = "LLMSER_RANKER_KEY"


@click.command(params=server.main.params, help=f"{server.main.help} Clients need its key: {KEY}, or the home's.")
def serve_ranker(**options: Any) -> None:
    if not os.environ.get(KEY):
        home = environment.home()
        os.environ[KEY] = secret_store.load_or_make(home).ranker_key
        echo(f"Its key is ranker_key in {home / secret_store.FILE}.", err=True)
    assert server.main.callback is not None
    server.main.callback(**options)
