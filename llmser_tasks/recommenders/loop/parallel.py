"""Training one model on several processes of this machine, through torch's own launcher."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import psutil
import torch

from llmser_tasks.core.errors import InputError, LlmserError, StorageError
from llmser_tasks.core.progress import Progress
from llmser_tasks.core.threads import thread_count
from llmser_tasks.recommenders.loop.inputs import TrainingInputs, TrainingSummary
from llmser_tasks.recommenders.loop.process_group import PeerLost

log = logging.getLogger(__name__)

VARIABLE = "LLMSER_TRAINING_PROCESSES"
FOLDER = ".processes-"
RERUN = "rerun the step, it goes on after the last finished epoch"
TAIL = 10_000  # characters of the processes' own output that go to the log


def process_count(device: str) -> int:
    """`LLMSER_TRAINING_PROCESSES`, or 1.

    It is not the number of GPUs unless someone says so: a batch is shared out, not multiplied, so several processes pay
    only if batches or models are large, and a pipeline on several GPUs has other trainings to run meanwhile.

    Raises:
        InputError: it is not a number of processes, or more than `device` has room for.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return 1
    if not given.isdecimal() or int(given) < 1:
        raise InputError(f"{VARIABLE} is {given!r}; set it to a whole number of processes, 1 or more.")
    count = int(given)
    if count > 1 and device.startswith("cuda:"):
        raise InputError(f"{VARIABLE} is {count}, but the training is bound to {device}; set it to 1, or name no GPU.")
    if device == "cuda" and count > torch.cuda.device_count():
        raise InputError(
            f"{VARIABLE} is {count}, but {torch.cuda.device_count()} GPUs are visible; set it to that or less."
        )
    return count


def launch(inputs: TrainingInputs, processes: int, progress: Progress) -> TrainingSummary:
    """Train on several processes and wait for them; none of them outlives this call, or the process that made it.

    Its inputs lie in a private folder inside the target folder meanwhile. Whoever ends last removes it; if all are
    killed at once, the next attempt does.

    Raises:
        InputError: what a process found wrong with the inputs.
        StorageError: a process failed or was killed.
    """
    for left in inputs.folder.glob(f"{FOLDER}*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=inputs.folder)).absolute()
    try:
        inputs.write(folder)
        with (folder / "errors.txt").open("wb") as errors:
            process = subprocess.Popen(
                _command(folder, processes),
                env=_environment(processes),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # the terminal's Ctrl-C reaches only us
            )
        try:
            assert process.stdout is not None
            summary = _listen(process.stdout, progress)
        finally:
            _end(process)
        if summary is None:
            raise _failure(folder, processes)
        return summary
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _command(folder: Path, processes: int) -> list[str]:
    """torch's launcher, on this machine alone; it too meets its workers through a file."""
    settings = {
        "nnodes": 1,
        "nproc-per-node": processes,
        "rdzv-backend": "c10d",
        "rdzv-conf": "store_type=file",
        "rdzv-endpoint": folder / "launcher",
        "rdzv-id": "training",
        "local-addr": "127.0.0.1",
        "log-dir": folder / "log",
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    launcher = ["-m", "llmser_tasks.recommenders.loop.launcher", str(folder)]
    worker = ["-m", "llmser_tasks.recommenders.loop.worker", str(folder)]
    return [sys.executable, *launcher, *options, *worker]


def _environment(processes: int) -> dict[str, str]:
    """The processes share the threads of one training and talk over the loopback alone."""
    threads = str(max(1, thread_count() // processes))
    return os.environ | {
        "OMP_NUM_THREADS": threads,
        "LLMSER_THREADS": threads,
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # it would listen on every interface
    }


def _listen(output: IO[bytes], progress: Progress) -> TrainingSummary | None:
    """Pass on what the leading process tells until all have ended; returns the summary, if it got that far."""
    summary = None
    for line in output:
        try:
            told: dict[str, Any] = json.loads(line)
        except ValueError:
            continue  # a library's own words
        if "progress" in told:
            progress(*told["progress"])
        elif "summary" in told:
            summary = TrainingSummary(**told["summary"])
    return summary


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the launcher and its workers, which have sessions of their own; a worker just starting sees its input end."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    if process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            launcher = psutil.Process(process.pid)
            launcher.suspend()  # it must not start or restart anybody now
            for one in (*launcher.children(recursive=True), launcher):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
    process.wait()
    process.stdout.close()


def _failure(folder: Path, processes: int) -> LlmserError:
    """Why there is no summary, in one sentence: the first error that is not merely about another process being gone."""
    output = (folder / "errors.txt").read_text(encoding="utf-8", errors="replace").strip()
    log.warning("Output of the training processes:\n%s", output[-TAIL:])
    files = (folder / "log").glob("**/error.json")
    recorded = [json.loads(path.read_text(encoding="utf-8"))["message"] for path in files]
    recorded.sort(key=lambda error: int(error["extraInfo"]["timestamp"]))
    errors = [error["message"] for error in recorded if not error["message"].startswith(PeerLost.__name__)]
    if errors:
        kind, _, sentence = errors[0].partition(": ")
        for known in (InputError, StorageError):
            if kind == known.__name__:
                return known(sentence)
        return StorageError(
            f"Training on {processes} processes failed with {_one_line(errors[0])}; mend that and {RERUN}."
        )
    if recorded or re.search(r"Signal \d+", output):
        return StorageError(
            f"One of {processes} training processes was killed, perhaps because memory ran out; "
            f"{RERUN}, or lower {VARIABLE}."
        )
    return StorageError(f"Training on {processes} processes did not start: {_one_line(output[-200:])}.")


def _one_line(text: str) -> str:
    """The first line of an error that says something, without its full stop."""
    return next((line.strip().rstrip(".") for line in text.splitlines() if line.strip()), "nothing was said")
