"""Readers of public datasets: each turns one layout on disk into the frames, calibration and poses of ours."""
