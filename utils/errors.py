"""Errors that a user can act on: what and where, found, expected, what to do."""

from __future__ import annotations


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
