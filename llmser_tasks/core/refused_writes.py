"""Why a file could not be written, whichever library found out."""

from __future__ import annotations

import errno
import os
import re

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# How libraries that raise no OSError say it: safetensors and Arrow, DuckDB, SQLite, NumPy.
NUMBERED = re.compile(r"\b(?:os error|errno)\W{1,4}(\d+)", re.IGNORECASE)
TOLD = re.compile(
    r"no space left on device|disk quota exceeded|disk is full|\d+ requested and \d+ written", re.IGNORECASE
)


def refusal(error: BaseException) -> str | None:
    """What the operating system said when it refused to write a file; None: it is another error."""
    if isinstance(error, OSError) and (error.filename is not None or error.errno is not None):
        return os.strerror(error.errno) if error.errno else str(error)
    told: BaseException | None = error
    while told is not None:
        if isinstance(told, OSError) and told.errno in FULL:
            return os.strerror(told.errno)
        if (numbered := NUMBERED.search(str(told))) and int(numbered[1]) in FULL:
            return os.strerror(int(numbered[1]))
        if TOLD.search(str(told)):
            return os.strerror(errno.ENOSPC)
        told = told.__cause__ or told.__context__
    return None
