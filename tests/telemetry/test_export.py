"""Real export, received and decoded: a whole program's telemetry arrives complete, over either protocol.

The program is tests/shop, in a process of its own. tests/stack makes the same checks behind an independent collector.
"""

from collections.abc import Callable

import pytest

from tests.shop import checks, metric_checks
from tests.shop.checks import Arrival
from tests.shop.launch import run
from tests.support.otlp_receiver import OtlpReceiver

RUNS = [(protocol, loop) for protocol in ("grpc", "http/protobuf") for loop in ("asyncio", "uvloop")]
FIELDS = {"traces": "spans", "metrics": "metrics", "logs": "logs"}


@pytest.fixture(scope="module", params=RUNS, ids="-".join)
def arrival(request: pytest.FixtureRequest) -> Arrival:
    """What arrived of one run of the program; there is one run for each protocol and event loop."""
    protocol, loop = request.param
    with OtlpReceiver() as receiver:
        report = run(receiver.endpoint(protocol), protocol, loop)
    assert {each.transport for each in receiver.requests()} == {protocol.partition("/")[0]}
    scopes = {
        (scoped.scope.name, scoped.scope.version, scoped.schema_url)
        for each in receiver.requests()
        for group in getattr(each.message, f"resource_{FIELDS[each.signal]}")
        for scoped in getattr(group, f"scope_{FIELDS[each.signal]}")
    }
    return Arrival(report, receiver.spans(), receiver.points(), receiver.log_records(), scopes)


@pytest.mark.parametrize("check", [*checks.CHECKS, *metric_checks.CHECKS], ids=lambda check: check.__name__)
def test_a_programs_telemetry_arrives_complete(arrival: Arrival, check: Callable[[Arrival], None]) -> None:
    """Counts, parents, links, attributes, log records, metrics, exemplars: as planned, and each once."""
    check(arrival)
