"""What the card about updates says: the origin, its commits since, each file, and what a restart would lose."""

from codex_space.services import leaving
from codex_space.services.context import Context
from codex_space.services.updates import Update
from codex_space.store import runs
from codex_space.store.runs import ACTIVE
from codex_space.ui.views.markup import escape, render_notice

SHOWN_COMMITS = 10
SHOWN_FILES = 40


def render_start(ctx: Context) -> str:
    """Return what this is about, before anything is asked."""
    if not ctx.settings.space_id:
        text = "This machine is not a Space; <code>codex-space space update --space owner/name</code> updates one of yours."
        return f"<p class=cs-note>{text}</p>"
    return "<p class=cs-note>A copy of a Space is a repository of its own. This takes over what its origin has changed.</p>"


def is_busy(ctx: Context) -> bool:
    """Return whether a run here has to be saved and stopped first."""
    return runs.count_runs(ctx.db, states=tuple(ACTIVE), place="local") > 0


def render_update(ctx: Context, update: Update) -> str:
    """Return what an update would do."""
    origin = f"<b>{escape(update.origin)}</b>"
    if not update.files:
        return render_notice(
            "good", "Up to date", f"This copy has all of {origin}, <code>{update.origin_commit[:7]}</code>."
        )
    base = f"<code>{update.base_commit[:7]}</code>" if update.base_commit else "a version its history does not name"
    head = f"<p>{origin} is at <code>{update.origin_commit[:7]}</code>; this copy stands on {base}.</p>"
    commits = [f"<p class=cs-note><code>{line.id[:7]}</code> {escape(line.title[:200])}</p>" for line in update.commits]
    rows = [
        f"<tr><td>{one.kind}</td><td><code>{escape(one.path)}</code></td>"
        f"<td>{'changed in this copy too' if one.is_own else ''}</td></tr>"
        for one in update.files
    ]
    table = (
        "<div class=cs-scroll><table class=cs-table><thead><tr><th>There</th><th>File</th><th>Here</th></tr></thead>"
        f"<tbody>{''.join(rows[:SHOWN_FILES])}</tbody></table></div>{_more(len(rows) - SHOWN_FILES, 'files')}"
    )
    history = f"{''.join(commits[:SHOWN_COMMITS])}{_more(len(commits) - SHOWN_COMMITS, 'commits')}"
    notes = "".join(f"<p class=cs-note>{escape(note)}</p>" for note in update.notes)
    return f"{head}{history if commits else ''}{table}{notes}{_losses(ctx)}"


def render_taken(commit: str) -> str:
    """Return that it is done."""
    text = (
        f"Commit <code>{commit[:7]}</code>. The Hub builds the Space now; this page comes back when it has restarted."
    )
    return render_notice("good", "Updated", text)


def render_drained() -> str:
    """Return what goes on now."""
    text = "Look again and press Update once they have ended and their uploads are done. Stay, above, takes this back."
    return render_notice("note", "Runs are being saved and stopped", text)


def _losses(ctx: Context) -> str:
    lost = leaving.losses(ctx)
    if not lost:
        return "<p class=cs-note>The Hub builds and restarts the Space after an update. Nothing would be lost.</p>"
    return render_notice(
        "note", "The restart empties this disk", f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in lost)}</ul>"
    )


def _more(count: int, what: str) -> str:
    return f"<p class=cs-note>and {count:,} more {what}</p>" if count > 0 else ""
