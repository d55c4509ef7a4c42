"""Errors that a user can act on: what and where, found, expected, what to do."""

from __future__ import annotations

import errno
import os


class InputError(Exception):
    """A mistake in what the user gave, found before the expensive work.

    Args:
        what: what is wrong and where (file, folder, flag).
        found: what was found there.
        expected: what should be there.
        do: what the user can do about it.
    """

    def __init__(self, what: str, *, found: str, expected: str, do: str) -> None:
        self.what, self.found, self.expected, self.do = what, found, expected, do
        super().__init__(f"{what}\n  found:    {found}\n  expected: {expected}\n  do:       {do}")


class NotApplicable(Exception):
    """A stage has nothing to work on in this scene; the message says why. Not a mistake of the user."""


_DISK_TROUBLE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EACCES: "give this user the right to read and write it",
    errno.EPERM: "give this user the right to read and write it",
    errno.EROFS: "choose a --basedir on a disk that can be written",
    errno.ENOTDIR: "correct the path: one of its folders is a file",
    errno.EEXIST: "correct the path: a file is in the place of a folder",
    errno.EISDIR: "correct the path: a folder is in the place of a file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "look after the disk or the network drive",
}


def disk_trouble(error: OSError) -> InputError | None:
    """Return what a user can do about an error of the file system; None where the error is not of that kind."""
    if error.errno not in _DISK_TROUBLE:
        return None
    where = f"{error.filename} cannot be read or written" if error.filename else "a file cannot be written"
    reason = os.strerror(error.errno)
    return InputError(
        where,
        found="the disk is full" if error.errno == errno.ENOSPC else reason,
        expected="a disk with space, and files that this user may use",
        do=f"{_DISK_TROUBLE[error.errno]}, run again: finished stages are kept",
    )
