"""(c) From a worker's event to the point on an open page in a real Chromium."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.measure import REPO, clean_environ, percentile, quartiles, served_page, write_result
from bench.training import logged_at, make_base, recipe_text, write_rows

STEPS = 100
CHROMIUM = shutil.which("chromium") or "chromium"
# The chart says in data-step which step it has drawn last; note when each value appears.
OBSERVE = """() => {
  const chart = document.querySelector('#runs-chart .cs-chart-host [data-step]');
  window.drawn = {};
  new MutationObserver(() => { window.drawn[chart.dataset.step] ??= Date.now() / 1000; })
    .observe(chart, {attributes: true, attributeFilter: ['data-step']});
}"""


def main() -> dict[str, object]:
    """Watch one training run on the Runs tab; compare each drawn step with the time in its event."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        recipe = recipe_text(
            make_base(Path(folder) / "base"), write_rows(Path(folder) / "rows.jsonl"), "event delay", STEPS
        )
        with served_page(workspace) as (address, _, _), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            command = [sys.executable, "-m", "codex_space", "train", "-", "--workspace", str(workspace)]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=clean_environ(), cwd=REPO
            )
            assert process.stdin is not None
            process.stdin.write(recipe.encode())
            process.stdin.close()
            page.goto(address)
            page.get_by_role("tab", name="Runs", exact=True).click()
            page.locator("#runs-chart .cs-chart-host [data-step]").wait_for(state="attached", timeout=60_000)
            page.evaluate(OBSERVE)
            watched_from = time.time()
            process.wait(600)
            drawn = {int(step): at for step, at in page.evaluate("() => window.drawn").items() if step.isdigit()}
            browser.close()
        written = logged_at(next((workspace / "runs").glob("*-sft-*")))
    delays = [_delay(step, at, drawn) for step, at in written.items() if at > watched_from and step <= max(drawn)]
    figures = {
        "delay_s": {**quartiles(delays), "p95": round(percentile(delays, 0.95), 3), "max": round(max(delays), 3)},
        "goal": {"delay_s": 2.0},
    }
    write_result("event_delay", figures)
    return figures


def _delay(step: int, written_at: float, drawn: dict[int, float]) -> float:
    """A step is on the page when it or a later one is drawn."""
    return min(at for drawn_step, at in drawn.items() if drawn_step >= step) - written_at
