"""Every step of the Dockerfile, executed in a clean Debian root, and what it starts looked at as the platform would.

Where there is no Docker engine this is what shows that the image builds and runs. `python -m bench image`, or
`make image` for its options. Root is needed, minutes, and 5 GB of disk, which are given back (`--keep` keeps the root).
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.container import ImageCheckError
from bench.dockerfile import Base, DockerfileError, Step, choose_sources, parse_dockerfile, read_base, read_ignored
from bench.image_start import look_at
from bench.measure import REPO, write_result
from bench.root import BASE_PATH, Program, Root, RootError, call


@dataclass
class Image:
    """What the steps so far have made: the root, and what the next one begins with."""

    root: Root
    context: Path
    paths: list[str]
    user: str = "root"
    folder: str = "/"
    environ: dict[str, str] = field(default_factory=lambda: {"PATH": BASE_PATH})
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    port: int = 0

    def program(self, words: Sequence[str], **environ: str) -> Program:
        """Return a command as this image would run it."""
        home = {} if "HOME" in self.environ else {"HOME": "/root"}
        return Program(words, self.user, self.folder, {**home, **self.environ, **environ})

    def execute(self, step: Step) -> None:
        """Do one step.

        Raises:
            RootError: Its command failed.
            DockerfileError: It copies what is not there.
        """
        match step.name:
            case "RUN":
                program = self.program(["/bin/sh", "-c", step.text])
                self.root.run(Program(program.words, program.user, program.folder, program.environ, is_online=True))
            case "ENV":
                self.environ |= step.settings
            case "WORKDIR":
                self.folder = str(Path(self.folder) / step.words[0])
                (self.root.folder / self.folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                self.user = step.words[0]
            case "COPY":
                self._copy(step)
            case "EXPOSE":
                self.port = int(step.words[0].partition("/")[0])
            case "ENTRYPOINT":
                self.entrypoint = step.words
            case "CMD":
                self.command = step.words

    def _copy(self, step: Step) -> None:
        *sources, target = step.words
        uid, gid = self._find_owner(step)
        place = Path(self.folder) / target
        chosen = choose_sources(sources, self.paths, step.line)
        is_folder = target.endswith(("/", ".")) or chosen[0][0] != sources[0].removeprefix("./")
        for source, below in chosen:
            wanted = place / below if is_folder else place
            self._make_folders(wanted.parent, uid, gid)
            there = self.root.folder / str(wanted).lstrip("/")
            shutil.copyfile(self.context / source, there)
            there.chmod(0o755 if os.access(self.context / source, os.X_OK) else 0o644)
            os.chown(there, uid, gid)

    def _make_folders(self, folder: Path, uid: int, gid: int) -> None:
        """Make what is missing of a path, owned as the copied files are."""
        there = self.root.folder / str(folder).lstrip("/")
        if there.is_dir():
            return
        self._make_folders(folder.parent, uid, gid)
        there.mkdir(mode=0o755)
        os.chown(there, uid, gid)

    def _find_owner(self, step: Step) -> tuple[int, int]:
        """A name without a group means the group of the user's own number, as Docker has it."""
        name, _, group = step.owner.partition(":")
        uid = self._find_id("passwd", name, step.line) if name else 0
        return uid, self._find_id("group", group, step.line) if group else uid

    def _find_id(self, table: str, name: str, line: int) -> int:
        if name.isdigit():
            return int(name)
        for row in (self.root.folder / "etc" / table).read_text().splitlines():
            fields = row.split(":")
            if fields[0] == name:
                return int(fields[2])
        raise DockerfileError(f"Line {line}: nobody is called {name!r} in /etc/{table} of the image.")


def main(arguments: Sequence[str] = ()) -> dict[str, Any]:
    """Build, start, look, and keep the figures; exits with 1 and a sentence where a step fails."""
    asked = _read_arguments(arguments)
    os.umask(0o022)
    folder = Path(tempfile.mkdtemp(prefix="codex-image-", dir=asked.folder))
    try:
        figures = _measure(folder, asked)
        write_result("image", figures)
    except (DockerfileError, RootError, ImageCheckError) as error:
        print(f"image: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    finally:
        if asked.keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    return figures


def _measure(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    steps = parse_dockerfile((REPO / "Dockerfile").read_text(encoding="utf-8"))
    base = read_base(steps[0])
    context, commit, paths = _check_out(folder)
    image = Image(Root(folder), context, paths)
    rows = []
    for step in steps:
        before, started = image.root.size_bytes(), time.monotonic()
        if step.name == "FROM":
            exact = image.root.make(base, asked.python)
        else:
            image.execute(step)
        rows.append(_row(step, time.monotonic() - started, image.root.size_bytes() - before))
        print(_line(rows[-1]), flush=True)
    started = look_at(image.root, image.program([*image.entrypoint, *image.command]), image.port, folder)
    for name, said in started["checks"].items():
        print(f"{name:<34} {said}")
    return {"commit": commit, "base": _describe(base, exact), "steps": rows, "image_mb": _mb(image.root), **started}


def _check_out(folder: Path) -> tuple[Path, str, list[str]]:
    """Return a clean checkout of what is committed, its commit, and the files that the build is given."""
    context = folder / "context"
    call(["git", "clone", "--quiet", str(REPO), str(context)])
    commit = call(["git", "-C", str(context), "rev-parse", "--short", "HEAD"]).strip()
    if call(["git", "-C", str(REPO), "status", "--porcelain"]).strip():
        print("changes that are not committed are not in this image", file=sys.stderr)
    is_ignored = read_ignored((context / ".dockerignore").read_text(encoding="utf-8"))
    names = call(["git", "-C", str(context), "ls-files", "-z"]).split("\0")
    return context, commit, [name for name in names if name and not is_ignored(name)]


def _row(step: Step, seconds: float, size_bytes: int) -> dict[str, Any]:
    text = step.text if len(step.text) < 100 else f"{step.text[:97]}..."
    return {
        "line": step.line,
        "step": f"{step.name} {text}",
        "seconds": round(seconds, 1),
        "megabytes": round(size_bytes / 1e6, 1),
    }


def _line(row: dict[str, Any]) -> str:
    return f"{row['line']:>4} {row['seconds']:>8.1f} s {row['megabytes']:>9.1f} MB  {row['step'][:90]}"


def _describe(base: Base, exact: str) -> dict[str, str]:
    return {
        "named": f"python:{base.python}-slim-{base.suite}",
        "stood in for by": f"debootstrap {base.suite} (minbase) with Python {exact} of this machine in /usr/local",
    }


def _mb(root: Root) -> float:
    return round(root.size_bytes() / 1e6, 1)


def _read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.image", description="Build and start the image without Docker."
    )
    parser.add_argument("--keep", action="store_true", help="leave the root where it is")
    parser.add_argument("--folder", help="where to make it (default: the temporary folder; 5 GB are needed)")
    parser.add_argument("--python", default="", help="this machine's Python of the version that FROM names")
    return parser.parse_args(list(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
