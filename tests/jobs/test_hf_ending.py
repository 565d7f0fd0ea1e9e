"""One word and one sentence for each way a Job can end."""

from dataclasses import replace

import pytest

from codex_space.jobs.hf_ending import END, judge
from codex_space.store.hub_jobs import HubJob
from codex_space.store.runs import FINAL

JOB = HubJob("r", 1, "l4x1", "ada", "j", "http://x", "COMPLETED", "", 0.8, 100.0, 3600.0, 1.0, 0)


@pytest.fixture
def run(bench):
    return bench.submit("ok", place="hf-jobs")


@pytest.mark.parametrize(
    ("verdict", "intent", "stage", "message", "expected", "said"),
    [
        (END + "succeeded", "", "COMPLETED", "", "succeeded", ""),
        (END + "succeeded", "cancel", "CANCELED", "", "succeeded", ""),
        (END + "stopped", "stop", "COMPLETED", "", "stopped", "its own words"),
        (END + "stopped", "cancel", "CANCELED", "", "stopped", "Cancelled. It can go on from step 1,200."),
        (END + "failed", "", "ERROR", "exit code: 1", "failed", "its own words"),
        (END + "lost", "", "ERROR", "exit code: 1", "failed", "exit code: 1"),
        (END + "nonsense", "", "ERROR", "", "failed", "ended with an error"),
        ("done", "", "COMPLETED", "", "succeeded", ""),
        ("stopped", "stop", "ERROR", "", "stopped", "did not stop by itself"),
        ("", "", "COMPLETED", "", "lost", "does not say how the run ended"),
        ("", "", "DELETED", "", "lost", "DELETED"),
        ("", "", "CANCELED", "", "stopped", "cancelled on the Hub"),
        ("", "", "ERROR", "Job timeout", "failed", "time limit of 1 h"),
        ("failed", "", "ERROR", "exit code: 1", "failed", "its own words"),
    ],
)
def test_every_end_is_told(run, verdict, intent, stage, message, expected, said):
    ended = replace(run, verdict=verdict, intent=intent, reason="its own words" if verdict else "")
    state, reason = judge(ended, replace(JOB, stage=stage, message=message), 1200)
    assert state == expected
    assert state in FINAL
    assert said in reason


def test_a_limit_is_recognised_by_the_time_too(run):
    state, reason = judge(run, replace(JOB, stage="ERROR", message="killed", running_s=3599.0), 0)
    assert (state, "time limit" in reason) == ("failed", True)


def test_without_a_job_it_was_cancelled(run):
    assert judge(run, None, 0) == ("stopped", "Cancelled.")
