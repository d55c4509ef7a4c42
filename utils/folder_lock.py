"""One process at a time works on an experiment: a lock that ends with the process that holds it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from utils.errors import InputError

log = logging.getLogger("specula")

LOCK = ".lock"
_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)
_POLL_SECONDS = 0.5


@contextlib.contextmanager
def only_one(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock of an experiment's folder for the time of the block.

    The kernel frees the lock when its process ends, however it ends; on a network drive the server does. Where
    the file system knows no locks a warning says so, and the work goes on without.

    Args:
        folder: the experiment, which exists.
        wait: wait for a process that holds the lock, instead of refusing.

    Raises:
        InputError: another process holds the lock, and `wait` is not asked for.
    """
    with open(folder / LOCK, "a+") as file:
        waiting = False
        while not _taken(file.fileno(), folder):
            if not wait:
                raise _in_use(folder)
            if not waiting:
                log.info("waiting for %s, which works on %s", _holder(folder), folder)
                waiting = True
            time.sleep(_POLL_SECONDS)
        file.seek(0)
        file.truncate()
        began = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(json.dumps({"host": socket.gethostname(), "process": os.getpid(), "since": began}))
        file.flush()
        yield


def _taken(descriptor: int, folder: Path) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno not in _NO_LOCKS:
            raise
        log.warning(
            "%s lies on a disk without locks: two runs of this experiment would disturb each other", folder
        )
    return True


def _holder(folder: Path) -> str:
    try:
        record = json.loads((folder / LOCK).read_text())
        return f"process {record['process']} on {record['host']}, since {record['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _in_use(folder: Path) -> InputError:
    return InputError(
        f"{folder} is being worked on",
        found=_holder(folder),
        expected="one process an experiment",
        do="let it finish or stop it, choose another --expname (a sweep: --sweep_name), or --wait until it ends",
    )
