"""What the page of `python -m export.view` shows and measures."""
