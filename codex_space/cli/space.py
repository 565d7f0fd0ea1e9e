"""`codex-space space`: duplicate a Space, switch its machine, pause it, set its sleep, say how it is."""

import argparse
import getpass
import json
import sys
from dataclasses import asdict

from codex_space.cli.opened import opened
from codex_space.core.errors import WorkspaceError
from codex_space.core.settings import read_key
from codex_space.hub.space import Runtime
from codex_space.services import space


def duplicate(args: argparse.Namespace) -> int:
    """Make a private copy and print where it is."""
    with opened(args) as ctx:
        space.find_space(ctx, args.source)  # before anything is asked for
        variables = dict(_pair(text) for text in args.variable)
        secrets = {name: value for name, value in map(_read_secret, args.secret) if value}
        made = space.duplicate(
            ctx,
            args.to,
            hardware=args.hardware,
            sleep_time_s=args.sleep_time,
            secrets=secrets,
            variables=variables,
            from_id=args.source,
        )
    if args.json:
        print(json.dumps(asdict(made)))
        return 0
    print(f"{made.repo_id} (private): {made.url}")
    if made.is_copying:
        print("Its large files are still being copied.")
    print("Open it: its Start tab says what is still missing.")
    return 0


def status(args: argparse.Namespace) -> int:
    """Print what a Space runs on."""
    with opened(args) as ctx:
        space_id, runtime = space.status(ctx, args.space)
    return _print(args, space_id, runtime)


def hardware(args: argparse.Namespace) -> int:
    """Ask for another machine."""
    with opened(args) as ctx:
        runtime = space.request_hardware(ctx, args.flavor, space_id=args.space)
        return _print(args, space.find_space(ctx, args.space), runtime)


def sleep(args: argparse.Namespace) -> int:
    """Set the sleep time."""
    with opened(args) as ctx:
        runtime = space.set_sleep_time(ctx, args.seconds, space_id=args.space)
        return _print(args, space.find_space(ctx, args.space), runtime)


def pause(args: argparse.Namespace) -> int:
    """Pause it."""
    with opened(args) as ctx:
        runtime = space.pause(ctx, space_id=args.space)
        return _print(args, space.find_space(ctx, args.space), runtime)


def restart(args: argparse.Namespace) -> int:
    """Start it again."""
    with opened(args) as ctx:
        runtime = space.restart(ctx, space_id=args.space)
        return _print(args, space.find_space(ctx, args.space), runtime)


def _print(args: argparse.Namespace, space_id: str, runtime: Runtime) -> int:
    if args.json:
        print(json.dumps({"space": space_id, **asdict(runtime)}))
        return 0
    asked = f", {runtime.requested} asked for" if runtime.is_switching else ""
    print(
        f"{space_id}: {runtime.stage} on {runtime.hardware or 'no machine yet'}{asked}; {space.describe_sleep(runtime)}"
    )
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise WorkspaceError(f"{name[:100]!r} has no value", where="--variable", cure="Write NAME=VALUE.")
    return name, value


def _read_secret(text: str) -> tuple[str, str]:
    """Ask for a secret on the terminal without showing it, or take it from the environment variable that was named.

    Raises:
        WorkspaceError: There is neither; or it was written into the command, where other programs read it.
    """
    name, equals, source = text.partition("=")
    if equals and not source.startswith("@"):
        cure = "Write --secret NAME to be asked for it, or --secret NAME=@VARIABLE to name an environment variable."
        raise WorkspaceError("a secret does not belong into a command", where=f"--secret {name[:100]}", cure=cure)
    if equals:
        found = read_key(source[1:])
        if found is None:
            raise WorkspaceError("that environment variable is empty", where=source[1:][:100], cure="Set it, or ask.")
        return name, found.reveal()
    if not sys.stdin.isatty():
        cure = f"Write --secret {name}=@VARIABLE and set that environment variable."
        raise WorkspaceError("there is no terminal to ask on", where=f"--secret {name[:100]}", cure=cure)
    return name, getpass.getpass(f"{name} of the copy (not shown; empty for none): ").strip()
