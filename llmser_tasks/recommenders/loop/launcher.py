"""torch's launcher, as `parallel` starts it: `… -m llmser_tasks.recommenders.loop.launcher FOLDER ARGUMENTS…`.

It and its workers live as long as their standard input stays open. The process that called `train` holds the other end:
however it ends, nothing is left running.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path


def end_with_caller(folder: Path) -> None:
    """From now on, end this process and remove the folder as soon as the caller is gone."""
    threading.Thread(target=_wait_for_end, args=(folder,), daemon=True).start()


def _wait_for_end(folder: Path) -> None:
    while os.read(0, 1):
        pass
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.02)  # another process, also about to end, wrote there meanwhile
    os._exit(1)


if __name__ == "__main__":
    end_with_caller(Path(sys.argv[1]))
    from torch.distributed.run import main

    main(sys.argv[2:])
