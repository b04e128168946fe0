"""`llmser backup` and `llmser restore`"""

from __future__ import annotations

from pathlib import Path

import click

from llmser_tasks.core.console import echo
from llmser_tasks.warehouse import address


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def backup(file: Path, force: bool) -> None:
    """Write the whole warehouse (answers, runs, results) into FILE. Runs may go on meanwhile.

    Artefacts are files in LLMSER_ARTEFACTS: copy that folder, or let runs make them again.
    """
    from llmser_tasks.warehouse import backup as saving

    with address.kept_database() as warehouse:
        rows = saving.backup(warehouse, file, force=force)
    echo(f"{file}: {rows:,} rows, {file.stat().st_size:,} bytes; read again and found whole")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--yes", is_flag=True, help="Do not ask whether what is there may be replaced.")
@click.option("--drop-former", is_flag=True, help="Without FILE: drop what earlier restores have kept.")
def restore(file: Path | None, yes: bool, drop_former: bool) -> None:
    """Replace everything in the warehouse by what `llmser backup` wrote, while nothing else runs.

    A backup of an older release is upgraded. What was there is kept, as another schema of the same database, until
    `llmser restore --drop-former` drops it.
    """
    from llmser_tasks.warehouse import backup as saving
    from llmser_tasks.warehouse.engine import where

    if (file is None) is not drop_former:
        raise click.UsageError("Give a FILE to restore, or --drop-former alone.")
    with address.database() as warehouse:
        if file is None:
            if not yes:
                click.confirm(f"What restores have kept in {where(warehouse.url)} will be dropped. Go on?", abort=True)
            echo(f"Dropped: {', '.join(saving.forget(warehouse)) or 'nothing was kept'}.")
            return
        if not yes:
            click.confirm(f"Everything in {where(warehouse.url)} will be replaced. Go on?", abort=True)
        restored = saving.restore(warehouse, file)
    echo(f"Restored {restored.rows:,} rows from {file}.")
    if restored.former:
        echo(
            f"What was there before is kept as schema {restored.former}; `llmser restore --drop-former` drops it.",
            err=True,
        )
