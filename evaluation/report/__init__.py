"""The report page: one HTML file, made of a finished run."""
