"""A real page in its own process, and a real Chromium looking at it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SHOTS = Path(os.environ.get("CODEX_TEST_SHOTS", "")) if os.environ.get("CODEX_TEST_SHOTS") else None
REPO = Path(__file__).parent.parent.parent


class Page:
    """The served program: start, kill, start again on the same workspace."""

    def __init__(self, workspace, **environ):
        self.workspace, self.process = workspace, None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environ = {**os.environ, "HF_HUB_OFFLINE": "1", **environ}
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [
            sys.executable,
            "-m",
            "codex_space",
            "serve",
            "--port",
            str(self.port),
            "--workspace",
            str(self.workspace),
        ]
        log = (self.workspace.parent / "page.log").open("ab")
        self.process = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log, cwd=REPO)
        log.close()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.address}/health", timeout=2):
                return self
            assert self.process.poll() is None, (self.workspace.parent / "page.log").read_text()[-3000:]
            time.sleep(0.05)
        raise AssertionError("the page did not answer within 60 s")

    def stop(self, signal_number=signal.SIGTERM):
        self.process.send_signal(signal_number)
        self.process.wait(30)

    def cli(self, *args, timeout_s=240):
        command = [sys.executable, "-m", "codex_space", *args, "--workspace", str(self.workspace)]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=timeout_s, cwd=REPO)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        _kill_workers(self.workspace)


def _kill_workers(workspace):
    """Whatever the test left running in this workspace ends with it."""
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        if any(str(workspace) in part for part in process.info["cmdline"] or []):
            with contextlib.suppress(psutil.Error):
                process.kill()


def wait_for(condition, timeout_s=150, what="it"):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError(f"{what} did not happen within {timeout_s} s")


def all_runs(page):
    """The list over HTTP: a command line of its own at every look would take the cores the training needs."""
    with urllib.request.urlopen(f"{page.address}/api/runs", timeout=30) as answer:
        return json.load(answer)["runs"]


def read_run(page, run_id):
    return next(run for run in all_runs(page) if run["id"] == run_id)


def queue(page, *overrides, recipe="sft/tiny-cpu"):
    """Submit from a second process, as somebody at a terminal would; the page owns the workspace and starts it."""
    before = {run["id"] for run in all_runs(page)}
    process = subprocess.Popen(
        [sys.executable, "-m", "codex_space", "train", recipe, *overrides, "--workspace", str(page.workspace)],
        env=page.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return wait_for(
            lambda: next((run["id"] for run in all_runs(page) if run["id"] not in before), None), 60, "the run"
        )
    finally:
        process.kill()  # it only looks on
        process.wait()


def wait_for_step(page, run_id, step):
    wait_for(lambda: read_run(page, run_id)["step"] >= step, 150, f"step {step}")


def drawn_step(tab):
    drawn = tab.page.locator("#runs-chart .cs-chart-host [data-step]")
    return (
        int(drawn.get_attribute("data-step") or 0) if drawn.count() else 0
    )  # before the first point there is no chart


@pytest.fixture
def page(tmp_path):
    served = Page(tmp_path / "workspace", CODEX_SPACE_FIRST_MODEL="tiny")
    served.workspace.mkdir()
    yield served.start()
    served.close()


@pytest.fixture(scope="session")
def chromium():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: browser tests skipped")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)  # two busy cores: an answer may take longer than Playwright's 5 s

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """One browser tab on the page, with everything it complained about."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.errors, self.outside = [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.page.goto(address)

    def _note(self, url):
        if not url.startswith(("http://127.0.0.1", "data:", "blob:")):
            self.outside.append(url)

    def go(self, name):
        self.page.get_by_role("tab", name="Start", exact=True).wait_for()
        tab = self.page.get_by_role("tab", name=name, exact=True)
        if tab.is_visible():
            tab.click()
        else:  # Gradio folds tabs that do not fit into a menu
            self.page.locator(".overflow-menu > button").first.click()
            self.page.locator(".overflow-dropdown button", has_text=name).click()
        return self

    def shot(self, name):
        if SHOTS:
            SHOTS.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=SHOTS / f"{name}.png")


@pytest.fixture
def open_tab(chromium):
    opened = []

    def open_one(page, **options):
        opened.append(Tab(chromium, page.address, **options))
        return opened[-1]

    yield open_one
    for tab in opened:
        if tab.page.is_closed():
            continue
        assert tab.outside == [], f"the page asked for something outside this machine: {tab.outside}"
        assert tab.errors == []
        tab.context.close()
