"""What the docs say can be followed: links lead somewhere, commands and options exist, the reference is current."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from llmser_tasks.cli import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for target in targets:
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def commands() -> Iterator[tuple[str, str]]:
    """Every `llmser …` in fences and in the running text, as page and line."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fenced = "\n".join(FENCE.findall(text)).replace("\\\n", " ")
        lines = [line.split("#")[0] for line in fenced.splitlines() if line.startswith("llmser ")]
        lines += [one.replace("\n", " ") for one in re.findall(r"`(llmser [^`]+)`", FENCE.sub("", text))]
        yield from ((page.name, " ".join(line.split())) for line in lines)


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_commands_and_their_options_exist(page: str, line: str) -> None:
    words = shlex.split(re.split(r"[|>&;]", line)[0])[1:]
    context: click.Context = click.Context(cli)
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        assert found is not None, f"{page}: {line}"
        command = found
        words = words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-"):
            assert word.split("=")[0] in {*known, "--help"}, f"{page}: {line}"


def test_the_reference_is_current() -> None:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text(encoding="utf-8") == module.reference(), "run python docs/reference.py"
