"""A clean Debian root with Python, in the place of python:3.N-slim-SUITE, and commands run in it as in a container.

debootstrap makes it from the mirror this machine's apt is set to; Python is this machine's own 3.N, laid to /usr/local without
its packages. Each command has namespaces of its own for mounts and processes, so that nothing stays mounted, or running, once
it has ended. What belongs to this machine (its mirrors, its pip's settings, its certificates) is seen below /mnt while a step runs and is
never written into the root.
Covered: files, users, environment, PID 1, /dev, the end of every process. Not covered: Docker's seccomp profile, capabilities,
cgroups, its own network and its layers.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.dockerfile import Base

BASE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
PIP = "25.0.1"
"""The pip of the official images of Python 3.12."""
LIBRARIES = (
    "ca-certificates", "netbase", "tzdata", "libbz2-1.0", "libcrypt1", "libexpat1", "libffi8", "liblzma5", "libncursesw6",
    "libnsl2", "libreadline8", "libsqlite3-0", "libssl3", "libtirpc3", "libuuid1", "zlib1g",
)  # fmt: skip
"""What the official image has for its Python beside Debian's smallest system."""
_NEEDED = ("debootstrap", "unshare", "mount", "chroot", "nice", "git")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_SLIM = ("doc", "man", "info", "locale", "lintian", "groff", "linda")
_CLEAN = 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };\n'
_LOCAL = re.compile(r"(?:file://)?(/[^\s]+)")


class RootError(Exception):
    """One sentence: what this machine lacks, or which command failed, with the end of its output."""


@dataclass(frozen=True)
class Program:
    """A command in the root.

    Attributes:
        words: The command; its name is looked for on the PATH of `environ`.
        user: By name or number, as USER says it.
        folder: Where it begins.
        environ: All of its environment.
        is_online: Whether it sees this machine's mirrors and pip settings below /mnt.
    """

    words: Sequence[str]
    user: str = "root"
    folder: str = "/"
    environ: Mapping[str, str] = field(default_factory=lambda: {"PATH": BASE_PATH, "HOME": "/root"})
    is_online: bool = False


class Root:
    """The folder that becomes / of every command run in it."""

    def __init__(self, folder: Path) -> None:
        """Take an empty folder; what is beside it (`machine`) holds this machine's settings.

        Raises:
            RootError: This machine cannot do it.
        """
        missing = [name for name in _NEEDED if _which(name) is None]
        if missing:
            raise RootError(f"{', '.join(missing)} is missing: apt-get install {' '.join(missing)}.")
        if os.geteuid() != 0:
            raise RootError("Only root can make a Debian root and change into it: run this as root.")
        self.folder = folder / "root"
        self._machine = folder / "machine"
        self._machine.mkdir(parents=True)
        self._shown: list[Path] = []
        self.environ_online = {**self._write_apt_settings(), **self._read_pip_settings()}

    def make(self, base: Base, python: str = "") -> str:
        """Fill it; returns the exact version of its Python.

        Raises:
            RootError: No mirror has the suite, this machine has no such Python, or a step failed.
        """
        interpreter = find_python(base.python, python)
        mirror = _find_mirror(base.suite)
        libraries = f"--include={','.join(LIBRARIES)}"
        words = ["debootstrap", "--variant=minbase", libraries, base.suite, str(self.folder), mirror]
        call([_at("unshare"), "--mount", *words])
        self._make_slim()
        for path in ("etc/apt/sources.list", "etc/resolv.conf", "etc/hosts"):  # Docker lays its own over the last two
            (self.folder / path).write_text("")
        self._lay_python(base.python, Path(interpreter))
        pip = f"python -m ensurepip && python -m pip install --root-user-action=ignore pip=={PIP}"
        links = "cd /usr/local/bin && rm -f pip && ln -s pip3 pip && rm -rf /root/.cache"
        self.run(Program(["/bin/sh", "-c", f"{pip} && {links}"], is_online=True))
        told = (
            "import ssl, sqlite3, lzma, bz2, ctypes, readline, uuid, zlib, platform; print(platform.python_version())"
        )
        return self.run(Program(["python", "-c", told])).strip()

    def command(self, program: Program) -> list[str]:
        """Return what to start on this machine to run it; PID 1 of its namespace is the program itself."""
        environ = dict(program.environ)
        if program.is_online:
            environ |= self.environ_online
        pairs = [f"{name}={value}" for name, value in environ.items()]
        inside = [_at("chroot"), f"--userspec={program.user}", str(self.folder), "/usr/bin/env", "-i", "-C"]
        lines = "\n".join([*self._mounts(is_online=program.is_online), 'exec "$@"'])
        shell = ["/bin/sh", "-euc", lines, "sh", *inside, program.folder, *pairs, *program.words]
        return [_at("unshare"), "--mount", "--pid", "--fork", *shell]

    def run(self, program: Program) -> str:
        """Run it to its end and return its output.

        Raises:
            RootError: It failed.
        """
        return call(self.command(program))

    def size_bytes(self) -> int:
        """Return what its files take; hard links count once."""
        seen: dict[tuple[int, int], int] = {}
        for folder, _, names in os.walk(self.folder):
            for name in names:
                facts = (Path(folder) / name).lstat()
                seen[(facts.st_dev, facts.st_ino)] = facts.st_size
        return sum(seen.values())

    def _mounts(self, *, is_online: bool) -> list[str]:
        root = shlex.quote(str(self.folder))
        lines = [
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            f"mount -t proc proc {root}/proc",
            f"mount -t sysfs -o ro sysfs {root}/sys",
            f"mount -t tmpfs -o mode=755 tmpfs {root}/dev",
            f"mkdir {root}/dev/pts {root}/dev/shm",
            f"mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts {root}/dev/pts",
            f"mount -t tmpfs -o mode=1777 tmpfs {root}/dev/shm",
            f"ln -s pts/ptmx {root}/dev/ptmx; ln -s /proc/self/fd {root}/dev/fd",
            *(f"ln -s /proc/self/fd/{number} {root}/dev/std{name}" for number, name in enumerate(("in", "out", "err"))),
            *(f"touch {root}/dev/{name}; mount --bind /dev/{name} {root}/dev/{name}" for name in _DEVICES),
            *(f"mount --bind -o ro /etc/{name} {root}/etc/{name}" for name in ("resolv.conf", "hosts")),
        ]
        if is_online:
            lines.append(f"mount -t tmpfs -o mode=755 tmpfs {root}/mnt")
            for number, path in enumerate([self._machine, *self._shown]):
                here, there = shlex.quote(str(path)), f"{root}/mnt/{number}"
                lines += [f"{'mkdir' if path.is_dir() else 'touch'} {there}", f"mount --bind -o ro {here} {there}"]
        return lines

    def _write_apt_settings(self) -> dict[str, str]:
        """Lay this machine's mirrors and how it reaches them where the steps' apt looks."""
        sources = [f"deb {uri} {suite} {part}" for uri, suite, part in _read_mirrors()]
        (self._machine / "sources.list").write_text("\n".join(sources) + "\n")
        told = call(["apt-config", "dump", "Acquire"]).splitlines()
        kept = [line for line in told if not line.startswith("Acquire::IndexTargets") and not line.endswith(' "";')]
        places = ['Dir::Etc::sourcelist "/mnt/0/sources.list";', 'Dir::Etc::sourceparts "/dev/null";']
        (self._machine / "apt.conf").write_text("\n".join([*kept, *places]) + "\n")
        return {"APT_CONFIG": "/mnt/0/apt.conf"}

    def _read_pip_settings(self) -> dict[str, str]:
        """Return this machine's pip settings as variables, with the files they name where the steps see them."""
        found: dict[str, str] = {}
        for line in call([sys.executable, "-m", "pip", "config", "list"]).splitlines():
            key, _, value = line.partition("=")
            section, _, option = key.partition(".")
            if section in {"global", "install", ":env:"}:
                found[f"PIP_{option.upper().replace('-', '_')}"] = self._show_files(shlex.split(value)[0])
        return found

    def _show_files(self, value: str) -> str:
        def show(match: re.Match[str]) -> str:
            path = Path(match[1])
            if not path.exists():
                return match[0]
            # an index on disk links to files beside it
            seen = path.parent if match[0].startswith("file:") else path
            if seen not in self._shown:
                self._shown.append(seen)
            return match[0].replace(str(seen), f"/mnt/{1 + self._shown.index(seen)}", 1)

        return " ".join(_LOCAL.sub(show, word) if _LOCAL.fullmatch(word) else word for word in value.split())

    def _make_slim(self) -> None:
        """Keep out what the slim images keep out: a package that cannot do without its manual fails here too."""
        excluded = [f"path-exclude /usr/share/{name}/*\n" for name in _SLIM]
        kept = "path-include /usr/share/doc/*/copyright\n"
        (self.folder / "etc/dpkg/dpkg.cfg.d/slim").write_text("".join([*excluded, kept]))
        for name in _SLIM:
            for path in (self.folder / "usr/share" / name).glob("*"):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (self.folder / "etc/apt/apt.conf.d/clean").write_text(_CLEAN)
        for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
            for path in (self.folder / folder).iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        policy = self.folder / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)

    def _lay_python(self, version: str, interpreter: Path) -> None:
        """Copy the interpreter, its library and its headers to /usr/local, as if it had been built for there."""
        home, target = interpreter.parent.parent, self.folder / "usr/local"
        left = shutil.ignore_patterns(
            "site-packages", "__pycache__", "test", "idlelib", "tkinter", "_tkinter*", "turtle*"
        )
        for name in (f"lib/python{version}", f"include/python{version}"):
            shutil.copytree(home / name, target / name, ignore=left, symlinks=True)
        (target / f"lib/python{version}/site-packages").mkdir()
        for library in (home / "lib").glob(f"libpython{version}.so*"):
            shutil.copy2(library, target / "lib", follow_symlinks=False)
        shutil.copy2(home / f"bin/python{version}", target / "bin")
        for name in ("python3", "python"):
            (target / "bin" / name).symlink_to(f"python{version}")
        for facts in (target / f"lib/python{version}").glob("_sysconfigdata*.py"):
            facts.write_text(facts.read_text().replace(str(home), "/usr/local"))
        self.run(Program(["ldconfig"]))


def find_python(version: str, named: str = "") -> str:
    """Return the real path of this machine's Python of that version.

    Raises:
        RootError: There is none, or the one that was named is another.
    """
    tried = [named] if named else [shutil.which(f"python{version}") or ""]
    if not named and shutil.which("pyenv"):
        versions = Path(call(["pyenv", "root"]).strip()) / "versions"
        tried += [str(path) for path in sorted(versions.glob(f"{version}.*/bin/python{version}"))]
    for candidate in filter(None, tried):
        told = (
            "import sys, os; print('%d.%d' % sys.version_info[:2], os.path.realpath(sys.executable), sys.base_prefix)"
        )
        done = subprocess.run([candidate, "-ISc", told], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.split()[0] == version:
            return str(Path(done.stdout.split()[2]) / "bin" / f"python{version}")
    raise RootError(f"There is no Python {version} on this machine: name one with --python.")


def call(words: Sequence[str]) -> str:
    """Run a command and return what it printed, both streams.

    Raises:
        RootError: It failed.
    """
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(words, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False)
        output.seek(0)
        text = output.read()
    if done.returncode:
        last = "\n".join(text.strip().splitlines()[-12:])
        raise RootError(f"{words[-1][:200]!r} ended with {done.returncode}:\n{last}")
    return text


def _read_mirrors() -> list[tuple[str, str, str]]:
    shape = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    told = call(["apt-get", "indextargets", "--format", shape, "Created-By: Packages"])
    rows = sorted({line for line in told.splitlines() if line.count(" ") == 2})
    if not rows:
        raise RootError("This machine's apt has no lists of packages: run apt-get update first.")
    return [tuple(row.split(" ")) for row in rows]  # type: ignore[misc]  # three, as counted above


def _find_mirror(suite: str) -> str:
    for uri, found, part in _read_mirrors():
        if (found, part) == (suite, "main"):
            return uri
    raise RootError(f"This machine's apt has no mirror of Debian {suite}.")


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{BASE_PATH}:{os.environ.get('PATH', '')}")


def _at(name: str) -> str:
    return _which(name) or name
