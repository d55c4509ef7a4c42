"""The evaluation protocols of the field, each a named function over the files of a run (docs/protocols.md)."""
