"""`llmser serve-ranker`"""

from __future__ import annotations

import os
from typing import Any

import click

from llmser_tasks import settings
from llmser_tasks.console import echo
from llmser_tasks.llm import ranker
from llmser_tasks.services import secret_store

KEY = "LLMSER_RANKER_KEY"


@click.command(params=ranker.main.params, help=f"{ranker.main.help} Clients need its key: {KEY}, or the home's.")
def serve_ranker(**options: Any) -> None:
    if not os.environ.get(KEY):
        home = settings.home()
        os.environ[KEY] = secret_store.load_or_make(home).ranker_key
        echo(f"Its key is ranker_key in {home / secret_store.FILE}.", err=True)
    assert ranker.main.callback is not None
    ranker.main.callback(**options)
