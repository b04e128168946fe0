"""`llmser sample`"""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path

import click

from llmser_tasks.core import environment
from llmser_tasks.core.console import echo
from llmser_tasks.core.kinds import DUMP_FORMATS
from llmser_tasks.core.private import handed_out
from llmser_tasks.services.terminal import shown, stderr


@click.command()
@click.option("--users", type=click.IntRange(1), default=3000, show_default=True, help="People with an interaction.")
@click.option("--items", type=click.IntRange(10), help="Size of the catalogue. Default: grows with the users.")
@click.option("--seed", type=int, default=42, show_default=True, help="The same seed gives the same bytes.")
@click.option(
    "--source", type=click.Choice(list(DUMP_FORMATS)), default=DUMP_FORMATS.default, show_default=True, help="Format."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder. Default: sample/SOURCE below LLMSER_HOME."
)
def sample(users: int, items: int | None, seed: int, source: str, output: Path | None) -> None:
    """Write synthetic dumps of any size, in the format of a real source.

    They are made up, and say so. The paths of the two files go to stdout.
    """
    from llmser_tasks.sample import write_sample

    folder = (output or environment.home() / "sample" / source).absolute()
    console = stderr()
    handing = handed_out() if output else nullcontext()
    with handing, shown(console, "Writing the sample") as progress:
        files = write_sample(folder, users=users, items=items, seed=seed, source=source, progress=progress)
    echo(files.reviews)
    echo(files.items)
    paths = f"--reviews {shlex.quote(str(files.reviews))} --items {shlex.quote(str(files.items))}"
    console.print(f"SYNTHETIC data. Next: llmser run --dataset sample --source {source} {paths}", markup=False)
