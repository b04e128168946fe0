"""What a GPU would run, run on the CPU and compared with the CPU's own way; and the check that is made on a GPU itself
(`benchmarks/gpu.py`), so that it is ready when one is at hand."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from patience import PATIENCE_S

from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.kernels import own_scores

ROOT = Path(__file__).parents[3]
BENCHMARKS = ROOT / "benchmarks"
QUICK = ("branches", "attention", "dropout", "memory", "elsewhere")


@pytest.fixture(autouse=True)
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("LLMSER_THREADS", "1")


def checked(part: str) -> list[dict[str, Any]]:
    from gpu_checks import PARTS

    rows: list[dict[str, Any]] = PARTS[part][0](torch.device("cpu"), True)
    return rows


@pytest.mark.parametrize("part", QUICK)
def test_the_gpus_way_comes_to_what_the_cpus_way_comes_to(part: str) -> None:
    rows = checked(part)
    assert rows and not [row for row in rows if row["passed"] is False]


def test_a_wrong_slope_on_the_gpus_way_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    backward = own_scores._OnGpu.backward
    wrong = staticmethod(lambda ctx, *slopes: backward(ctx, *(2 * slope for slope in slopes)))
    monkeypatch.setattr(own_scores._OnGpu, "backward", wrong)
    failed = {row["name"] for row in checked("branches") if row["passed"] is False}
    assert {"sasrec bce", "bert4rec gbce DCT"} <= failed


def test_one_function_alone_says_what_goes_the_gpus_way() -> None:
    asking = [path for path in (ROOT / "llmser_tasks" / "recommenders").rglob("*.py") if "is_cuda" in path.read_text()]
    assert asking == [Path(devices.__file__)], "a branch that asks the tensor itself is tested nowhere"


def test_the_script_tells_each_part_and_ends_well(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    run = script("--only", "attention,memory", "--output", str(output))
    assert run.returncode == 0, run.stdout + run.stderr
    told = json.loads(output.read_text())
    assert list(told["parts"]) == ["attention", "memory"] and told["device"].startswith("cpu")
    assert all(part["passed"] and part["rows"] for part in told["parts"].values())
    assert "attention: passed" in run.stdout and "sasrec 1+32+33+200" in run.stdout and "All passed" in run.stdout


def test_a_part_that_fails_or_hangs_costs_the_others_nothing_but_the_exit_code(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    broken = tmp_path / "gpu_checks.py"
    broken.write_text(
        "import time\n"
        "def hang(device, small): time.sleep(600)\n"
        "def fail(device, small): raise ValueError('no such card')\n"
        "def wrong(device, small): return [{'name': 'loss', 'passed': False, 'off': 0.5}]\n"
        "def good(device, small): return [{'name': 'loss', 'passed': True}]\n"
        "PARTS = {'hang': (hang, 2), 'fail': (fail, 60), 'wrong': (wrong, 60), 'good': (good, 60)}\n"
    )
    for file in ("gpu.py", "floor.py"):
        (tmp_path / file).write_text((BENCHMARKS / file).read_text())
    run = script("--output", str(output), at=tmp_path)
    assert run.returncode == 1, run.stderr
    parts = json.loads(output.read_text())["parts"]
    assert {name: part["passed"] for name, part in parts.items()} == {
        "hang": False, "fail": False, "wrong": False, "good": True,
    }  # fmt: skip
    assert "took longer than" in parts["hang"]["failed"] and "no such card" in parts["fail"]["failed"]
    assert "Failed: hang, fail, wrong" in run.stdout


def script(*arguments: str, at: Path = BENCHMARKS) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(at / "gpu.py"), "--device", "cpu", "--small", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_it_needs_only_what_a_bare_machine_with_torch_has_and_the_wheels_it_names() -> None:
    import gpu

    needed: set[str] = set()
    seen: set[Path] = set()
    for script_ in ("gpu.py", "gpu_checks.py"):
        _follow(BENCHMARKS / script_, seen, needed)
    for module in ("launcher", "worker"):  # which start as processes of their own
        _follow(ROOT / "llmser_tasks" / "recommenders" / "loop" / f"{module}.py", seen, needed)
    assert ROOT / "llmser_tasks" / "core" / "config.py" in seen and BENCHMARKS / "floor.py" in seen
    assert needed <= gpu.MACHINE | gpu.WHEELS, needed - gpu.MACHINE - gpu.WHEELS
    assert needed >= gpu.WHEELS, "a wheel that nothing needs"


def _follow(path: Path, seen: set[Path], needed: set[str]) -> None:
    """What a file and all of ours that it imports import from elsewhere; a function's own imports count, too, but ours
    are not followed there: the check calls none of them."""
    if path in seen:
        return
    seen.add(path)
    tree = ast.parse(path.read_text())
    inner = {id(node) for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef) for node in ast.walk(outer)}
    for node in ast.walk(tree):
        for name in _imported(node):
            own = list(_files(name))
            if not own and name.split(".")[0] not in sys.stdlib_module_names | {"llmser_tasks"}:
                needed.add(name.split(".")[0])
            if id(node) not in inner or path.parent == BENCHMARKS:
                for file in own:
                    _follow(file, seen, needed)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names if _ours(node.module))]
    return []


def _ours(module: str) -> bool:
    return module.split(".")[0] == "llmser_tasks"


def _files(module: str) -> Iterator[Path]:
    """Our files that an import of a module runs: its own, and those of the packages around it."""
    parts = module.split(".")
    for root in (ROOT, BENCHMARKS) if len(parts) == 1 else (ROOT,):
        for count in range(1, len(parts) + 1):
            whole = root.joinpath(*parts[:count])
            yield from (file for file in (whole.with_suffix(".py"), whole / "__init__.py") if file.exists())
