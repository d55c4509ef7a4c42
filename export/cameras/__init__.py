"""Checks of posed cameras, one by one, for `python -m export.check_cameras`."""
