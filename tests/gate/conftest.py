"""A cluster in memory, behind the real gate."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from thunderline.testing.harness import Cluster, open_cluster


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with open_cluster() as opened:
        yield opened
