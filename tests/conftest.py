"""What every test gets: the event loop that was asked for, the servers, and a look for leaks."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Generator, Iterator, Mapping
from importlib.metadata import version

import hypothesis
import pytest
import pytest_asyncio

from dynamo_h2.config import Http2Config
from dynamo_h2.http2.engine import Engine
from dynamo_h2.http2.fast import FastEngine
from tests.leaks import LeakCheck
from tests.watched import LOOPS, WatchedAsyncio, WatchedUvloop

pytest_plugins = ["tests.peers.fixtures"]

IN_CI = os.environ.get("CI") == "1"

# A shared machine stalls now and then: a slow example is no finding.
hypothesis.settings.register_profile(
    "suite", deadline=None, max_examples=200, derandomize=IN_CI, print_blob=True
)
hypothesis.settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=sorted(LOOPS),
        default="uvloop",
        help="the event loop under all async tests",
    )
    parser.addoption(
        "--engine",
        choices=["fast", "stock"],
        default="fast",
        help="the protocol engine of every client that does not ask for another",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "released_defaults: sees the defaults as they are released")
    _set_default_engine(config.getoption("engine"))


def _set_default_engine(name: str) -> None:
    """Change the default of one field; everything else stays as it is released."""
    defaults = Http2Config.__init__.__kwdefaults__
    assert defaults is not None
    defaults["engine"] = name


@pytest.fixture(autouse=True)
def _released_defaults(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("released_defaults") is None:
        yield
        return
    _set_default_engine("fast")
    yield
    _set_default_engine(request.config.getoption("engine"))


@pytest.fixture(scope="session")
def engine_class(pytestconfig: pytest.Config) -> type[Engine]:
    """The engine that was asked for."""
    return FastEngine if pytestconfig.getoption("engine") == "fast" else Engine


def pytest_report_header(config: pytest.Config) -> str:
    debug = ", debug on" if config.getoption("asyncio_debug") else ""
    return (
        f"event loop: {config.getoption('loop')}{debug}; "
        f"engine: {config.getoption('engine')}; h2 {version('h2')}, hpack {version('hpack')}"
    )


def pytest_asyncio_loop_factories(config: pytest.Config) -> Mapping[str, object]:
    name = config.getoption("loop")
    return {name: LOOPS[name]}


def pytest_collection_finish() -> None:
    _keep_for_good()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, None, None]:
    yield
    if nextitem is None or nextitem.path != item.path:
        _keep_for_good()


def _keep_for_good() -> None:
    """Let garbage collections pass over what is alive now: there is one after each test.

    What was imported stays until the end, and so do the reports of thousands of tests.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI=1 nothing may be missing: a skip is a failure."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where everything has to run: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped where everything has to run: {report.longrepr}"
    return report


@pytest_asyncio.fixture
async def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.fixture(autouse=True)
def _no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """An async test ends with no task, socket or timer of its own, and no error left unseen."""
    if not pytest_asyncio.is_async_test(request.node):
        yield
        return
    loop = request.getfixturevalue("_loop")
    assert isinstance(loop, WatchedUvloop | WatchedAsyncio)
    check = LeakCheck(loop)
    yield
    if leaks := check.leaks():
        check.clear()
        pytest.fail("the test left behind:\n" + "\n".join(leaks), pytrace=False)
