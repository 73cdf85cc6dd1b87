"""What a tier of tests needs and cannot have: one line, or a failure where all is demanded."""

import os
from typing import NoReturn

import pytest

DEMAND = "MODELSEAL_TEST_REQUIRE"


def unavailable(why: str) -> NoReturn:
    """Skip a test for want of a prerequisite; fail where MODELSEAL_TEST_REQUIRE=all."""
    if os.environ.get(DEMAND) == "all":
        pytest.fail(f"{why} ({DEMAND}=all)")
    pytest.skip(why)
