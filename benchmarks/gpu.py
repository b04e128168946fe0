"""The recommenders on a GPU: every branch that a CPU does not take, in one command of at most eight minutes.

    python benchmarks/gpu.py [--only branches,speed] [--device cuda] [--small] [--within 480] [--output gpu.json]

Parts (`gpu_checks.py` says what each asks): branches, attention, dropout, speed, memory, elsewhere, resume, twice,
several. Each runs in a process of its own under its own time limit, so one that hangs or fails costs the others
nothing; --output is written after each. The exit code is 0 where every part ran and every check of it passed.

It needs no installation, only what `WHEELS` and `MACHINE` name: on a bare machine with torch, from a checkout,

    python -m pip download -d wheels --only-binary=:all: --python-version 3.12 pydantic       # where there is a network
    python -m pip install --no-index --find-links wheels --target site pydantic
    PYTHONPATH=site:. python benchmarks/gpu.py --output gpu.json

--device cpu --small takes a minute or two anywhere: the CPU's tensors go the GPU's way and are compared with its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MACHINE = {"torch", "numpy", "pandas", "pyarrow", "scipy", "numba", "transformers", "safetensors", "httpx", "psutil"}
WHEELS = {"pydantic", "pydantic_core"}  # pip fetches the second, and what else they need, with the first
SLOWER = 4  # how much longer a part may take on a CPU


def main() -> int:
    """Run the parts and say whether all passed."""
    arguments = _arguments()
    if arguments.part:
        _one(arguments.part, arguments.device, arguments.small, arguments.output)
        return 0
    from gpu_checks import PARTS

    chosen = arguments.only.split(",") if arguments.only else list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        sys.exit(f"There is no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}.")
    until = time.monotonic() + arguments.within
    told: dict[str, Any] = {"device": _device(arguments.device), "small": arguments.small, "parts": {}}
    for name in chosen:
        limit = PARTS[name][1] * (SLOWER if arguments.device == "cpu" else 1)
        part = _in_time(name, arguments.device, arguments.small, min(limit, until - time.monotonic()))
        told["parts"][name] = part
        _print(name, part)
        if arguments.output:
            arguments.output.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    bad = [name for name, part in told["parts"].items() if not part["passed"]]
    print(f"\n{'Failed: ' + ', '.join(bad) if bad else 'All passed'}; {told['device']}.")
    return 1 if bad else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parts, by commas; all by default")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes: does it run, is it right?")
    parser.add_argument("--within", type=float, default=480, help="seconds for everything")
    parser.add_argument("--output", type=Path, help="JSON of all figures")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # in the part's own process
    return parser.parse_args()


def _in_time(name: str, device: str, small: bool, limit: float) -> dict[str, Any]:
    """What a part's process found, or how it failed; nothing of it is left running."""
    if limit <= 0:
        return {"passed": False, "failed": "no time was left for it", "seconds": 0.0, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        output, log = Path(folder, "rows.json"), Path(folder, "log")
        command = [sys.executable, __file__, "--part", name, "--device", device, "--output", output]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        started = time.monotonic()
        with log.open("wb") as told:
            process = subprocess.Popen(
                [*command, *["--small"] * small], stdout=told, stderr=told, env=environment, start_new_session=True
            )
            try:
                process.wait(limit)
                failed = "" if process.returncode == 0 else f"ended with {process.returncode}"
            except subprocess.TimeoutExpired:
                failed = f"took longer than {limit:.0f} s"
            finally:
                with suppress(ProcessLookupError):  # whatever it started lives in its session
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        rows = json.loads(output.read_text(encoding="utf-8")) if output.exists() and not failed else []
        if failed:
            failed = f"{failed}: {log.read_text(errors='replace', encoding='utf-8')[-2000:]}"
    passed = not failed and all(row["passed"] is not False for row in rows)
    return {"passed": passed, "failed": failed, "seconds": round(time.monotonic() - started, 1), "rows": rows}


def _one(name: str, device: str, small: bool, output: Path) -> None:
    """One part, in this process; its rows go to `output`, whole."""
    import torch
    from gpu_checks import PARTS

    rows = PARTS[name][0](torch.device(device), small)
    output.write_text(json.dumps(rows), encoding="utf-8")


def _device(kind: str) -> str:
    import torch

    here = torch.cuda.get_device_name(0) if kind == "cuda" and torch.cuda.is_available() else platform.machine()
    return f"{kind}, {here}, torch {torch.__version__}, Python {platform.python_version()}"


def _print(name: str, part: dict[str, Any]) -> None:
    """A part as a table: a line a row."""
    print(f"\n{name}: {'passed' if part['passed'] else 'FAILED'}, {part['seconds']} s {part['failed']}", flush=True)
    for row in part["rows"]:
        figures = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in row.items()
            if key not in ("name", "passed") and value is not None
        )
        verdict = {True: "ok", False: "FAILED", None: ""}[row["passed"]]
        print(f"  {row['name']:<34} {verdict:<7} {figures}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
