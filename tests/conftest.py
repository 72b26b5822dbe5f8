"""What all tests share: one folder for data sets, so that nothing is written outside of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The default `data.root` of this session and of the processes it starts."""
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAN_DATA", str(root))
        yield root


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """What a test draws from torch does not depend on the tests before it."""
    torch.manual_seed(0)
