"""What all tests share: how OpenMP waits, said before PyTorch is loaded, and threads where they do not pay."""

from collections.abc import Iterator

import utils as utils  # isort: skip

import pytest
import torch


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run in one thread: the networks of the test are too small for two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
