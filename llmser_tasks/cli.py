"""`llmser …`: the same steps without the UI, and the services by hand.

Rows and results go to stdout, everything else to stderr. Exit codes: 0 done; 1 something that the sentence on stderr
tells how to mend; 2 wrong usage; 130 Ctrl-C; 141 the reader of stdout went away.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType
from typing import Any

import click
from typing_extensions import override

from llmser_tasks.core.console import echo, speak
from llmser_tasks.core.errors import LlmserError
from llmser_tasks.core.private import keep_private

COMMANDS = {  # name → module below llmser_tasks.commands, what it does
    "sample": ("sample", "Write synthetic dumps of any size in the real formats."),
    "ingest": ("ingest", "Read a dataset's dumps and say what is in them."),
    "estimate": ("estimate", "Say what a run would ask and cost, without asking."),
    "run": ("run", "Run the whole pipeline in this process."),
    "study": ("study", "Run many cells: datasets × backbones × methods × seeds."),
    "studies": ("study", "List studies, or the cells of one."),
    "trigger": ("trigger", "Start a run on Airflow."),
    "rerun-failed": ("rerun", "Let what failed of a run run again."),
    "accept": ("rerun", "Let a run go on without the users that have no answer."),
    "refresh": ("refresh", "Take in what arrived for a dataset, in this process."),
    "show": ("show", "Show metrics, pseudo-items, recommendations … of a run."),
    "export": ("show", "Write the same as CSV, JSON, Parquet or HTML, or a trained model."),
    "answers": ("answers", "Forget or export what LLMs answered."),
    "budget": ("budget", "Show or change what a run may spend."),
    "compare": ("compare", "Show runs side by side, with what is more than chance."),
    "published": ("publish", "List what readers were given of a dataset."),
    "publish": ("publish", "Give readers the results of a run."),
    "rollback": ("publish", "Give readers an earlier run again."),
    "recommend": ("recommend", "Recommend to anyone, with the model of a run."),
    "backup": ("backup", "Write the whole warehouse into one file."),
    "restore": ("backup", "Put a backup in the warehouse's place."),
    "up": ("up", "Start Postgres, the embedding ranker and Airflow; Ctrl-C stops them."),
    "down": ("up", "Stop what `up` started."),
    "serve-ranker": ("serve_ranker", "Serve the embedding ranker alone, for any OpenAI client."),
    "doctor": ("doctor", "Check this machine, and say what to do about what is wrong."),
}


class Commands(click.Group):
    """The subcommands, each imported when it is called, so that help and completion are quick."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"llmser_tasks.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except LlmserError as error:
            raise click.ClickException(str(error)) from None
        except (KeyboardInterrupt, click.Abort):
            echo("Interrupted.", err=True)
            raise click.exceptions.Exit(130) from None
        except BrokenPipeError:  # `llmser show … | head`: nobody reads on, which is no error worth a word
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(141) from None
        return result


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="llmser", prog_name="llmser")
def cli() -> None:
    """LLM-based data augmentation for sequential recommendation.

    Settings of the machine come from the environment: LLMSER_HOME (state and artefacts, by default .llmser in this
    folder), LLMSER_ARTEFACTS, LLMSER_DATABASE_URL (by default an embedded Postgres), LLMSER_LLM_URL, LLMSER_LLM_KEY and
    LLMSER_LLM_MODEL, LLMSER_INBOX (where new interactions arrive, by default inbox below the home; a folder or an
    fsspec URL), LLMSER_DUMPS (folders from which runs on Airflow may read, separated by colons; by default the one
    where `llmser up` is called).
    """


def main() -> None:
    """Entry point of `llmser`."""

    def terminated(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)  # so that an embedded Postgres started for this command stops with it

    signal.signal(signal.SIGTERM, terminated)
    keep_private()
    speak()
    cli()


if __name__ == "__main__":
    main()
