"""What became of a run that trained as a Hugging Face Job, in one word and one sentence for a person."""

from codex_space.store.hub_jobs import HubJob
from codex_space.store.runs import FINAL, Run

END = "end:"
"""Begins the verdict of a run whose owner in the Job said how it ended."""
ALMOST = 0.98
"""A Job that ran for this share of its time limit and ended with an error was most likely ended by the limit."""


def judge(run: Run, job: HubJob | None, last_step: int) -> tuple[str, str]:
    """Return (state, reason).

    Args:
        run: Its `verdict` is what the Job said of itself, its `intent` what this owner was doing to it.
        job: As the Hub told of it last; None where it was never submitted.
        last_step: Newest checkpoint on the Hub, 0 for none.
    """
    kept = f" It can go on from step {last_step:,}." if last_step else ""
    said = run.verdict.removeprefix(END) if run.verdict.startswith(END) else ""
    if job is None or (run.intent == "cancel" and said != "succeeded"):  # though it may have found the time to save
        return "stopped", f"Cancelled.{kept}"
    if said in FINAL and said != "lost":
        return said, run.reason
    if job.stage == "CANCELED" or run.intent == "stop":
        by = "It did not stop by itself and was cancelled" if run.intent else "The Job was cancelled on the Hub"
        return "stopped", f"{by}.{kept}"
    if job.stage == "ERROR":
        return "failed", f"{_error(run, job)}{kept}"
    if job.stage == "COMPLETED" and run.verdict == "done":
        return "succeeded", run.reason
    return "lost", f"The Job is over ({job.stage or 'it is gone'}) and its log does not say how the run ended.{kept}"


def _error(run: Run, job: HubJob) -> str:
    if "timeout" in job.message.lower() or job.running_s >= ALMOST * job.timeout_s:
        return f"The Job reached its time limit of {job.timeout_s / 3600:.3g} h; raise launch.timeout in a copy, or resume it."
    if run.verdict == "failed" and run.reason:
        return run.reason
    told = " ".join(job.message.split())[:200]
    return f"The Job ended with an error on the Hub{f' ({told})' if told else ''}; read the end of its log."
