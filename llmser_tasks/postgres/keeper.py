"""`python -m llmser_tasks.postgres.keeper HOME`: stops a server on demand when nobody uses it any more.

Its users do so themselves when they end. One that is killed cannot; but the kernel lets go of the lock that it held,
and that is what this process waits for, in a session of its own and at the cost of a sleeping interpreter.
"""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path


def main(home: Path) -> None:
    """Return when the server is stopped, or is no longer one on demand."""
    with (home / "postgres" / ".users").open("a", encoding="utf-8") as users:
        while True:
            fcntl.flock(users, fcntl.LOCK_EX)  # until the last user is gone, however it went
            fcntl.flock(users, fcntl.LOCK_UN)  # a new one takes the home's lock first, and so do we
            if _stopped(home):
                return


def _stopped(home: Path) -> bool:
    if not (home / "postgres" / "on-demand").exists():  # as usual: the last one out has stopped it
        return True
    from llmser_tasks.postgres import embedded  # late: there is mostly nothing to do

    return embedded.stop_unused(home)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
