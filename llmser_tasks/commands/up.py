"""`llmser up` and `llmser down`"""

from __future__ import annotations

import click

from llmser_tasks.core import environment
from llmser_tasks.core.console import echo
from llmser_tasks.services.terminal import stderr


@click.command()
def up() -> None:
    """Start Postgres, the embedding ranker and Airflow on this machine's loopback, until Ctrl-C or `llmser down`."""
    from llmser_tasks.services import local

    local.up(environment.home(), stderr())


@click.command()
def down() -> None:
    """Stop what `llmser up` started, also after it was killed."""
    from llmser_tasks.services import local

    stopped = local.down(environment.home())
    echo("Stopped." if stopped else f"Nothing ran for {environment.home()}.", err=True)
