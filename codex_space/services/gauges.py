"""Numbers for a monitoring system, in Prometheus' text form."""

import shutil

from codex_space.jobs import disk_usage
from codex_space.services import disk as disk_service
from codex_space.services.context import Context
from codex_space.store import checkpoints, runs

STATES = tuple(runs.ALLOWED)


def render(ctx: Context) -> bytes:
    """Return runs by state, uploads by state, and the disk."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest  # noqa: PLC0415  # slow, and asked for by few

    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"codex_space_{name}", text, labels, registry=registry)

    by_state = gauge("runs", "Runs by state", "state")
    for state in STATES:
        by_state.labels(state).set(runs.count_runs(ctx.db, states=(state,)))
    uploads = gauge("checkpoints", "Checkpoints by where they are", "upload")
    for upload, count in checkpoints.count_uploads(ctx.db).items():
        uploads.labels(upload).set(count)
    progress = gauge("run_progress_ratio", "Share of its steps that a run has done", "run", "kind")
    for run in runs.list_runs(ctx.db, limit=100, states=tuple(runs.ACTIVE)):
        if run.max_steps:
            progress.labels(run.id, run.kind).set(run.step / run.max_steps)
    disk = shutil.disk_usage(ctx.workspace.root)
    gauge("disk_free_bytes", "Bytes free where the workspace lies").set(disk.free)
    gauge("disk_size_bytes", "Bytes of the disk where the workspace lies").set(disk.total)
    usage = disk_usage.read(ctx.workspace)
    by_part = gauge("disk_used_bytes", "Bytes that the workspace takes, by part, as measured last", "part")
    for part, size_bytes in (usage.parts if usage else {}).items():
        by_part.labels(part).set(size_bytes)
    gauge("disk_measured_seconds", "When that was, in seconds since the epoch").set(usage.at if usage else 0)
    gauge("disk_needed_bytes", "Bytes that the run that trains still needs free").set(
        disk_service.needed_bytes(ctx, guesses=False)
    )
    owned = gauge("owner", "1 where this process starts and watches runs")
    owned.set(ctx.owner is not None)
    return generate_latest(registry)
