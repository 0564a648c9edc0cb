"""A ledger of each backend, for what every ledger does."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "ledger"))

from made_desks import BACKENDS


@pytest.fixture(params=BACKENDS)
def closed_desk(request):
    return BACKENDS[request.param](request)


@pytest.fixture
async def desk(closed_desk):
    """Whatever a test did to it, its records and its sums are right in the end."""
    async with closed_desk.open():
        yield closed_desk
    assert closed_desk.verified().ok
    assert closed_desk.checked() == ()
