"""50 signed-in people act at once beside 200 viewers: time of each act, none lost or doubled; then hours of polling: memory.

The page runs as on a Space, with sign-in against a local OpenID provider and the test Hub. `BENCH_PEOPLE`, `BENCH_PEOPLE_VIEWERS`,
`BENCH_PEOPLE_ACT_S` and `BENCH_PEOPLE_POLL_S` change how many there are and how long it takes.
"""

import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from bench.crowd import watching
from bench.measure import clean_environ, percentile, served_page, write_result
from bench.page_client import Browser, PageMap
from bench.people_account import find_wrong
from bench.people_acts import CHAT_TOKENS, THINK_S, Ledger, Person
from bench.viewers import VIEWERS
from codex_space.core.settings import read_settings
from codex_space.services import runs
from codex_space.services.context import Context, open_context
from codex_space.store.runs import ACTIVE
from tests.fakes.hub import HubState
from tests.fakes.hub_fixture import RunningHub
from tests.fakes.openid import CLIENT, SCOPES, Provider, ProviderState
from tests.ui.conftest import Served

PEOPLE = int(os.environ.get("BENCH_PEOPLE", "50"))
NUM_VIEWERS = int(os.environ.get("BENCH_PEOPLE_VIEWERS", str(VIEWERS)))
ACT_S = float(os.environ.get("BENCH_PEOPLE_ACT_S", "150"))
POLL_S = float(os.environ.get("BENCH_PEOPLE_POLL_S", "150"))
SPACE = "lab/studio"
LIVE_SHARE = 0.7
"""For so much of the time one run trains and all others wait; then the queue moves and runs are stopped in all states."""
POLLS_PER_S = 100.0
"""What 200 pages ask for at the server's own pace: each its run and the overview once in four seconds."""
WARM_UP_SHARE = 0.3
OPENED_S = 10.0
"""So long everybody has had the page and its Playground open before the first act."""
TIMEOUT_S = 120.0
LOOK_S = 0.05
GOAL_S = 2.0
TALKER = """kind: sft
name: talker
model: {model_name_or_path: fresh:tiny}
datasets: [{path: sample:python-first-chat}]
validation: {fraction: 0}
train: {max_steps: 10, per_device_train_batch_size: 4, learning_rate: 1.0e-3, max_length: 256}
"""
LIVE = TALKER.replace("talker", "watched").replace("max_steps: 10", "max_steps: 1000000, logging_steps: 1")


def main() -> dict[str, Any]:
    """Measure with everybody; exits with 1 where something was lost, doubled or failed."""
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), people=PEOPLE, viewers=NUM_VIEWERS, act_s=ACT_S, poll_s=POLL_S)
    write_result("people", figures)
    print(f"lost or doubled: {figures['wrong'] or 'nothing'}; errors: {figures['errors'] or 'none'}")
    if figures["wrong"] or figures["errors"]:
        raise SystemExit(1)
    return figures


def run(folder: Path, *, people: int, viewers: int, act_s: float, poll_s: float) -> dict[str, Any]:
    """Let people act, then viewers poll; return the figures, with what is wrong as sentences."""
    with _open_space(folder) as space:
        talker = space.train(TALKER, ("succeeded",))
        watched = space.train(LIVE, ("running",))
        before_mib = space.rss_mib()
        ledger = Ledger()
        with watching(space.address, _polled(watched), 2 * viewers) as watcher:
            sign_in_s, first_chat_s = asyncio.run(_act(space, ledger, talker, watched, people, act_s))
            watcher.send("stop")
            seen = watcher.recv()
        space.wait(lambda: not space.unfinished(), "every run to end")
        after_mib = space.rss_mib()
        wrong = find_wrong(space.ctx, ledger, [talker, watched])
        errors = [f"{deed.who} {deed.kind} {deed.what}: {deed.error}" for deed in ledger.deeds if deed.error]
        polling = _poll_for_hours(space, viewers, poll_s)
    return {
        "people": people,
        "viewers": viewers,
        "seconds": act_s,
        "think_s": list(THINK_S),
        "chat_tokens": CHAT_TOKENS,
        "acts": len(ledger.deeds),
        "acts_per_s": round(len(ledger.deeds) / act_s, 1),
        "sign_in_s": _spread(sign_in_s),
        "first_chat_with_a_model_to_load_s": round(first_chat_s, 2),
        **_times(ledger),
        "viewers_update_ms": {
            "median": round(percentile(seen.latencies_ms, 0.5), 1),
            "p95": round(percentile(seen.latencies_ms, 0.95), 1),
            "n": len(seen.latencies_ms),
            "cut_off": seen.cut_off,
        },
        "page_rss_mib": {"before": before_mib, "after": after_mib},
        "polling": polling,
        "wrong": wrong,
        "errors": errors,
        "goal": {"p95_s": GOAL_S, "wrong": 0, "errors": 0},
    }


@dataclass
class _Space:
    """The running page, and the database as another process sees it."""

    address: str
    page: psutil.Process
    ctx: Context
    provider: ProviderState

    def rss_mib(self) -> float:
        return round(self.page.memory_info().rss / (1 << 20), 1)

    def train(self, recipe: str, states: tuple[str, ...]) -> str:
        """Submit a recipe as the command line does, and wait until its run is so far."""
        run_id = runs.submit(self.ctx, recipe).id
        self.wait(lambda: (run := runs.show(self.ctx, run_id)).state in states and run.step > 0, f"{run_id} {states}")
        return run_id

    def unfinished(self) -> list[str]:
        found = runs.list_runs(self.ctx, limit=100_000)
        return [run.id for run in found if run.state == "queued" or run.state in ACTIVE]

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {TIMEOUT_S:.0f} s in vain for {what}")
            time.sleep(LOOK_S)


@contextlib.contextmanager
def _open_space(folder: Path) -> Iterator[_Space]:
    with contextlib.ExitStack() as stack:
        hub = RunningHub(HubState(folder / "hub"))
        stack.callback(hub.close)
        provider = Provider(ProviderState(hub.state.users))
        served = Served(provider.app)
        stack.callback(served.close)
        provider.issuer = f"http://127.0.0.1:{served.port}"
        environ = {
            "SYSTEM": "spaces", "SPACE_ID": SPACE, "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(folder / "hf"),
            "OAUTH_CLIENT_ID": CLIENT[0], "OAUTH_CLIENT_SECRET": CLIENT[1], "OAUTH_SCOPES": SCOPES,
            "OPENID_PROVIDER_URL": provider.issuer, "GRADIO_TEMP_DIR": str(folder / "gradio"),
            "CODEX_SPACE_VISITORS": "look", "CODEX_SPACE_GRACE_S": "10",
        }  # fmt: skip
        workspace = folder / "workspace"
        address, page, _ = stack.enter_context(served_page(workspace, environ=environ, log=folder / "page.log"))
        settings = read_settings({**clean_environ(), **environ, "CODEX_SPACE_HOME": str(workspace)})
        ctx = open_context(settings, time.time, own=False)
        stack.callback(ctx.close)
        yield _Space(address, page, ctx, provider.state)


async def _act(
    space: _Space, ledger: Ledger, talker: str, watched: str, people: int, act_s: float
) -> tuple[list[float], float]:
    """Sign everybody in, one at a time, then let all act together; return the seconds of each sign-in and of the first chat."""
    sign_in_s = []
    async with contextlib.AsyncExitStack() as stack:
        browsers = [
            await stack.enter_async_context(Browser(space.address, f"person{number:02}")) for number in range(people)
        ]
        for browser in browsers:
            space.provider.person = {"name": browser.name, "orgs": ["lab"], "roles": {"lab": "write"}}
            began = time.monotonic()
            await browser.sign_in()
            sign_in_s.append(time.monotonic() - began)
        page = PageMap((await browsers[0].ask("GET", "/config")).json())
        model = f"run:{talker}@step-{space.ctx.workspace.job(talker).checkpoint_steps()[-1]}"
        begin, ends = asyncio.Event(), [0.0]
        first_chat_s = await Person(browsers[0], page, Ledger(), model, people).wake_model()
        persons = [Person(browser, page, ledger, model, number) for number, browser in enumerate(browsers)]
        tasks = [asyncio.create_task(person.live(begin, lambda: time.monotonic() > ends[0])) for person in persons]
        await asyncio.sleep(OPENED_S)
        ends[0] = time.monotonic() + act_s
        begin.set()
        await asyncio.sleep(act_s * LIVE_SHARE)
        await asyncio.to_thread(runs.cancel, space.ctx, watched)
        await asyncio.gather(*tasks)
    return sign_in_s, first_chat_s


def _poll_for_hours(space: _Space, viewers: int, poll_s: float) -> dict[str, Any]:
    """Let viewers poll a live run as fast as the page answers; return its memory against the number of polls."""
    watched = space.train(LIVE, ("running",))
    samples: list[tuple[int, float]] = []
    with watching(space.address, _polled(watched), 2 * viewers, rest=0) as watcher:
        until = time.monotonic() + poll_s
        while time.monotonic() < until:
            time.sleep(min(1.0, poll_s / 20))
            samples.append((_num_polls(watcher), space.rss_mib()))
        watcher.send("stop")
        seen = watcher.recv()
    runs.cancel(space.ctx, watched)
    space.wait(lambda: not space.unfinished(), "the watched run to end")
    warm = [sample for sample in samples if sample[0] >= WARM_UP_SHARE * samples[-1][0]]
    slope = statistics.linear_regression([polls / 100_000 for polls, _ in warm], [mib for _, mib in warm]).slope
    return {
        "polls": len(seen.latencies_ms),
        "hours_of_200_viewers": round(len(seen.latencies_ms) / POLLS_PER_S / 3600, 2),
        "polls_per_s": round(len(seen.latencies_ms) / poll_s),
        "cut_off": seen.cut_off,
        "rss_mib": {
            "first": samples[0][1],
            "warm": warm[0][1],
            "last": samples[-1][1],
            "most": max(mib for _, mib in samples),
        },
        "mib_per_100_000_polls": round(slope, 3),
    }


def _num_polls(watcher: Connection) -> int:
    watcher.send("count")
    return watcher.recv()


def _polled(run_id: str) -> tuple[str, str]:
    """Return what a page asks for while its Runs tab is looked at; each poller asks for one of them."""
    return f"/api/runs/{run_id}/live", "/api/overview"


def _times(ledger: Ledger) -> dict[str, Any]:
    """Return the spread of each kind's seconds: to its effect, of everybody's first act at once, and a chat's whole answer."""
    kinds = ("upload", "start", "stop", "chat", "edit")
    return {
        "seconds_of": {kind: _spread([deed.first_s for deed in ledger.of(kind)]) for kind in kinds},
        "seconds_of_first_acts": {
            kind: _spread([deed.first_s for deed in ledger.of(kind) if deed.burst]) for kind in kinds
        },
        "chat_whole_answer_s": _spread([deed.seconds for deed in ledger.of("chat")]),
        "double_clicks": sum(deed.presses > 1 for deed in ledger.deeds),
        "stops_too_late": sum(deed.kind == "stop too late" for deed in ledger.deeds),
    }


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {"n": 0}
    spread = {"p50": percentile(values, 0.5), "p95": percentile(values, 0.95), "max": max(values)}
    return {name: round(value, 3) for name, value in spread.items()} | {"n": len(values)}
