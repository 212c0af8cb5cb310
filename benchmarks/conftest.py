"""Adds the machine and the failures to every file of benchmark results."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from vaebench.runner.machine import available_devices, environment

_FAILURES = pytest.StashKey[list[dict[str, str]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FAILURES] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record each benchmark that failed, also one that failed after it was measured."""
    report = yield
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = report.longreprtext if crash is None else crash.message
        failure = {"fullname": item.nodeid, "when": report.when or "", "reason": reason}
        item.config.stash[_FAILURES].append(failure)
    return report


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Processor, cores, threads, versions, GPU and driver, as a record has them; no host name."""
    machine_info.pop("node", None)
    found = {device: environment(device).model_dump() for device in available_devices()}
    machine_info["environments"] = found


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Record the failures, so that a missing number has a reason."""
    output_json["failures"] = config.stash[_FAILURES]
