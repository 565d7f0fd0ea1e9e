"""What a running worker process is asked by file and by signal."""

import signal

import pytest

from tests.work.conftest import chat_rows, sft_recipe, wait_until, weights

pytestmark = pytest.mark.slow
LONG = sft_recipe(train={"max_steps": 100_000}, checkpoints={"every_steps": 50_000})


def test_save_now_then_stop(make_job, processes):
    job = make_job(LONG, chat_rows())
    processes.append(job.start())
    wait_until(lambda: job.said("log"), "the first step")
    job.dir.save_request.touch()
    wait_until(lambda: job.said("checkpoint") and not job.dir.save_request.exists(), "the checkpoint")
    saved = job.said("checkpoint")[0]["step"]
    wait_until(lambda: job.said("log")[-1]["step"] > saved, "the next step")
    job.dir.stop_request.touch()
    assert processes[0].wait(60) == 0
    done = job.said("done")[0]
    assert done["stopped"]
    assert done["step"] == job.dir.checkpoint_steps()[-1] > saved
    assert weights(job.dir.checkpoint(done["step"]))


@pytest.mark.parametrize(("after", "saves"), [("log", True), ("phase", False)])
def test_a_terminated_worker_ends_well_and_saves_what_it_has_trained(make_job, processes, after, saves):
    job = make_job(LONG, chat_rows())
    processes.append(job.start())
    wait_until(lambda: job.said(after), f"the first {after}")
    processes[0].send_signal(signal.SIGTERM)
    assert processes[0].wait(60) == 0
    ended = job.said("done")[0]
    assert ended["stopped"]
    assert job.dir.checkpoint_steps()[-1:] == ([ended["step"]] if saves else [])
