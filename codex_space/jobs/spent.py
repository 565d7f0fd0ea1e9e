"""What a card says a run has cost: price times time where both are known, else why not."""

from codex_space.store import hub_jobs
from codex_space.store.costs import by_run
from codex_space.store.db import Database

CENT = 0.01


def say_cost(db: Database, run_id: str) -> str:
    """Return the cost so far in words, empty where nothing was paid."""
    usd = by_run(db, (run_id,)).get(run_id, 0.0)
    unpriced = sorted({job.flavor for job in hub_jobs.list_jobs(db, run_id) if job.usd_per_hour is None})
    known = "" if not usd else f"${usd:,.2f}" if usd >= CENT else f"less than ${CENT:.2f}"
    if unpriced:
        missing = f"the Hub named no price of the Job's {' and '.join(unpriced)}"
        return f"not known: {missing}; {known} for the rest" if known else f"not known: {missing}"
    return known
