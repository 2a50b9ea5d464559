"""A pytest plugin that writes what became of every phase of every test as one JSON line.

pytest's own report files name tests by module and class, which cannot be turned back into the names that pytest takes;
this writes those names. Under pytest-xdist only the controller sees every report, so only it writes.
"""

import json
import os


def _write(test, outcome, detail):
    line = json.dumps({"test": test, "outcome": outcome, "detail": detail})
    with open(os.environ["OUTCOMES_FILE"], "a", encoding="utf-8") as file:
        file.write(line + "\n")


def _is_worker():
    return "PYTEST_XDIST_WORKER" in os.environ


def pytest_runtest_logreport(report):
    if not _is_worker():
        _write(report.nodeid, report.outcome, "" if report.passed else report.longreprtext)


def pytest_collectreport(report):
    # A module that cannot be imported or that skips itself has no tests to report.
    if not report.passed and not _is_worker():
        _write(report.nodeid, report.outcome, report.longreprtext)
