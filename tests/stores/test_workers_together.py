"""What several workers are as one: their metrics, and one that hangs while the others work."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import OpsCoreProcess, running_opscore
from tests.support.waiting import TIMEOUT, wait_until

pytestmark = pytest.mark.timeout(180)

PATIENCE = 3.0


@pytest.fixture
def opscore(postgres: str, tmp_path: Path) -> Iterator[OpsCoreProcess]:
    """Ops-Core with two workers, both ready, of which none may hang for long."""
    env = {"OPSCORE_WORKERS": "2", "OPSCORE_WORKER_TIMEOUT": f"{PATIENCE}s"}
    with running_opscore(tmp_path, database_url=postgres, **env) as opscore:
        wait_until(lambda: len(workers(opscore)) == 2, timeout=3 * TIMEOUT, message="two workers")
        yield opscore


def workers(opscore: OpsCoreProcess) -> list[int]:
    """The processes that took up the port, in order."""
    return [event["pid"] for event in opscore.events() if event["event"] == "listening"]


def metrics(opscore: OpsCoreProcess) -> dict[str, float]:
    """The samples without labels, and those of refusals, that any worker tells."""
    answer = httpx.get(f"{opscore.url}/metrics", timeout=TIMEOUT)
    assert answer.status_code == 200
    return {
        sample.labels.get("code", sample.name): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if not sample.labels or "code" in sample.labels
    }


def refused(opscore: OpsCoreProcess) -> None:
    # Over a connection of its own, so that any worker may answer.
    assert httpx.get(f"{opscore.url}/nowhere", timeout=TIMEOUT).status_code == 404


def resident(process_id: int) -> int:
    """How much memory a process has, in bytes."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_whichever_worker_is_asked_tells_of_all_and_no_sum_goes_down(
    opscore: OpsCoreProcess,
) -> None:
    for count in range(1, 31):
        refused(opscore)
        told = metrics(opscore)
        # The other worker shows what it has counted twice a second, or as it is asked.
        assert told.get("not_found", 0) <= count
    wait_until(lambda: metrics(opscore)["not_found"] == 30, message="all refusals to be told")
    first, second = workers(opscore)
    assert metrics(opscore)["process_resident_memory_bytes"] > 1.5 * min(
        resident(first), resident(second)
    )
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(workers(opscore)) == 3, timeout=3 * TIMEOUT, message="a third worker")
    for _ in range(10):
        assert metrics(opscore)["not_found"] == 30
    refused(opscore)
    wait_until(lambda: metrics(opscore)["not_found"] == 31, message="the sum to go on")


def test_a_worker_that_hangs_is_replaced(opscore: OpsCoreProcess) -> None:
    first, second = workers(opscore)
    os.kill(first, signal.SIGSTOP)
    wait_until(lambda: len(workers(opscore)) == 3, timeout=6 * TIMEOUT, message="a third worker")
    (hangs,) = [event for event in opscore.events() if event["event"] == "worker_hangs"]
    assert hangs["worker"] == first
    assert PATIENCE <= hangs["silent"] < PATIENCE + 4
    (died,) = [event for event in opscore.events() if event["event"] == "worker_died"]
    assert (died["worker"], died["exit_code"]) == (first, -signal.SIGKILL)
    os.kill(second, 0)
