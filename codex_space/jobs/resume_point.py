"""From which checkpoint a run goes on: the newest whose resume state is here, unless clean-up took a newer one away."""

from codex_space.core.errors import TrainingError
from codex_space.core.paths import JobDir
from codex_space.jobs.spool import lacks_resume_state


def newest(job: JobDir) -> int:
    """Return the step of the newest checkpoint here that a run can go on from, 0 for its beginning.

    One that was brought back for its weights has no resume state: the Hub keeps only the newest one's.
    """
    return next((step for step in reversed(job.checkpoint_steps()) if not lacks_resume_state(job.checkpoint(step))), 0)


def require_newest(job: JobDir) -> int:
    """Return what `newest` does; going on from an older one than the run has come to would lose steps without a word.

    Raises:
        TrainingError: Clean-up took a newer one off this machine.
    """
    here, away = newest(job), max(job.away_steps(), default=0)
    if away > here:
        raise TrainingError(
            f"its newest checkpoint, step {away:,}, is on the Hub only",
            where=job.root.name,
            cure=f"Bring it back first, on Runs or by `codex-space runs fetch {job.root.name} {away}`.",
        )
    return here
