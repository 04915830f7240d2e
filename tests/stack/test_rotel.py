"""Real export into a collector that is independent of the SDK: it understands all that is sent, and has it once.

The checks are those of tests/telemetry/test_export.py, here on rotel's own account of what it received.
"""

from collections.abc import Callable

import pytest

from tests.shop import checks, metric_checks
from tests.shop.checks import Arrival
from tests.shop.launch import run
from tests.stack import debug_log
from tests.stack.rotel import Rotel

pytestmark = pytest.mark.stack

RUNS = [(protocol, loop) for protocol in ("grpc", "http/protobuf") for loop in ("asyncio", "uvloop")]


@pytest.fixture(scope="session")
def arrivals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Arrival]:
    """What one collector received from a run for each protocol and event loop, each under a service of its own.

    The collector has ended by then: nothing can come late, and come twice.
    """
    with Rotel(tmp_path_factory.mktemp("rotel")) as rotel:
        reports = {
            f"shop-{protocol}-{loop}": run(rotel.endpoint(protocol), protocol, loop, service=f"shop-{protocol}-{loop}")
            for protocol, loop in RUNS
        }
    received = debug_log.read(rotel.output())
    assert sorted(received) == sorted(reports)
    return {
        name: Arrival(reports[name], each.spans, each.points, each.records, each.scopes)
        for name, each in received.items()
    }


@pytest.mark.parametrize("check", [*checks.CHECKS, *metric_checks.CHECKS], ids=lambda check: check.__name__)
@pytest.mark.parametrize(("protocol", "loop"), RUNS)
def test_a_collector_receives_it_complete(
    arrivals: dict[str, Arrival], protocol: str, loop: str, check: Callable[[Arrival], None]
) -> None:
    """Counts, parents, links, attributes, log records, metrics, exemplars: as planned, and each once."""
    check(arrivals[f"shop-{protocol}-{loop}"])
