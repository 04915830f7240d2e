"""Python 3.13's suite, with its tests of shutdown(), passes with our classes on 3.11 and 3.12 too."""

import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.cpython.suite import ROOT, run_suite, suite_file

pytestmark = pytest.mark.cpython

TESTS_AT_LEAST = 59


@cache
def newer_suite() -> Path:
    """Find the suite of a Python 3.13 on this machine; fail with the way out when there is none."""
    found = subprocess.run(
        [ROOT / ".ci" / "find-python", "3.13"], capture_output=True, text=True, timeout=60, check=False
    )
    if found.returncode != 0:
        pytest.fail(f"the newer suite needs a Python 3.13 beside this one: {found.stderr.strip()}")
    ask = [found.stdout.strip(), "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"]
    return suite_file(subprocess.run(ask, capture_output=True, text=True, timeout=60, check=True).stdout.strip())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_suite_of_python_313_passes(loop: str) -> None:
    """Every test passes, those of shutdown() included, and nothing is logged or raised on the side."""
    report = run_suite(newer_suite(), "ours", loop)
    report.prove(tests=TESTS_AT_LEAST)
