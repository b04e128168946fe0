"""`llmser backup` and `llmser restore`"""

from __future__ import annotations

from pathlib import Path

import click

from llmser_tasks import settings
from llmser_tasks.console import echo


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(file: Path) -> None:
    """Write the whole warehouse (answers, runs, results) into FILE. Runs may go on meanwhile.

    Artefacts are files in LLMSER_ARTEFACTS: copy that folder, or let them be made anew.
    """
    from llmser_tasks.warehouse import backup as saving

    with settings.database() as url:
        saving.backup(url, file)
    echo(f"{file}: {file.stat().st_size:,} bytes")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask whether what is there may go.")
def restore(file: Path, yes: bool) -> None:
    """Put what `llmser backup` wrote in the place of everything that the warehouse holds, while nothing else runs.

    A backup of an older release is upgraded.
    """
    from llmser_tasks.warehouse import backup as saving
    from llmser_tasks.warehouse.engine import where
    from llmser_tasks.warehouse.migrations import migrate

    with settings.database() as url:
        if not yes:
            click.confirm(f"Everything in {where(url)} will be replaced. Go on?", abort=True)
        saving.restore(url, file)
        migrate(url)
    echo(f"Restored from {file}.")
