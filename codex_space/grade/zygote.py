"""Started by `worker` as `python -s -P -S` with a control socket as standard input; fork a confined child per job.

A zygote never reads a job: it hands the descriptors it was sent to its child, which reads the job after it has lost its
rights. So no child finds an earlier job in the memory it inherits. `-I` would do, but it also ignores PYTHONHASHSEED, and
set order is part of a verdict; the environment is ours, so nothing else is lost.

Covered: a child is killed when its time is up, when it is told, when the zygote ends or when the program that started
the zygote does; its exit status and use of CPU and memory are those the kernel counted.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path

from codex_space.grade import judge, lockdown, solver

MAX_REQUEST_BYTES, MAX_DESCRIPTORS = 4096, 4
WARM_UP_TIMES = 20
"""The interpreter rewrites code that has run about ten times."""
ROLES = {"judge": judge.main, "solver": solver.main}
# What nearly every program imports is loaded before the fork, and what needs a shared library from outside the standard
# library's folder; each page more makes each fork slower (`threading` alone, by what it does after a fork, half as slow again).
COMMON = """abc array ast base64 binascii bisect bz2 builtins cmath collections.abc contextlib copy ctypes dataclasses datetime decimal enum
fractions functools hashlib heapq inspect io itertools json lzma math numbers operator os random re statistics string
struct textwrap time traceback types typing unicodedata uuid zlib _strptime""".split()  # noqa: SIM905  # fifty names in quotes read worse
# Where no path can be opened, what is not loaded now can never be imported.
RARE = """__future__ argparse calendar colorsys copyreg csv difflib gc getpass glob hmac html html.parser
importlib.util keyword linecache locale logging multiprocessing pickle platform pprint queue reprlib secrets select shlex shutil
signal socket stat subprocess tempfile threading timeit token tokenize unittest urllib.parse urllib.request warnings weakref
xml.etree.ElementTree zoneinfo encodings.ascii encodings.idna encodings.latin_1 encodings.utf_8 encodings.utf_16
encodings.raw_unicode_escape encodings.unicode_escape encodings.cp437 encodings.hex_codec encodings.rot_13""".split()  # noqa: SIM905  # as above
NOT_LIBRARY = {"site-packages", "dist-packages", "test", "ensurepip", "idlelib", "turtledemo"}
"""Folders beside the standard library that are not it: installed packages may hold a benchmark's tests."""


def main(role: str, level: str) -> None:
    """Lock down, say so, and serve jobs until the control socket closes."""
    sys.path.remove(str(Path(__file__).parents[2]))
    sys.dont_write_bytecode = True
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    sys.stdin, sys.stdout = io.StringIO(), open(1, "w", closefd=False)  # noqa: SIM115  # for the life of the children
    sys.stderr = sys.stdout
    try:
        _lock(level)
    except OSError as error:
        control.send(json.dumps({"refused": str(error)}).encode())
        return
    control.send(json.dumps({"pid": os.getpid()}).encode())
    paths = level == "landlock"
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, MAX_DESCRIPTORS)
        if not request:
            return
        control.send(json.dumps(_serve(control, role, json.loads(request), descriptors, paths)).encode())


def _lock(level: str) -> None:
    if level not in {"landlock", "no-landlock"}:
        raise lockdown.LockdownError(f"unknown level {level!r}")
    for name in [*COMMON, *(RARE if level == "no-landlock" else [])]:
        with contextlib.suppress(ImportError):  # a Python built without some of them
            importlib.import_module(name)
    _warm_up()
    lockdown.limit_files()
    lockdown.drop_privileges()
    if level == "landlock":
        lockdown.restrict_files(_library())
    lockdown.confine_zygote(paths=level == "landlock")
    gc.collect()
    gc.freeze()


def _warm_up() -> None:
    """Do once what every child does: a page that is written here need not be copied in each of them."""
    for _ in range(WARM_UP_TIMES):
        judge.warm_up()
        solver.warm_up()


def _library() -> list[tuple[str, bool]]:
    top = os.path.dirname(os.__file__)  # noqa: PTH120  # as the import system spells it
    inside = [
        (entry.path, True) for entry in os.scandir(top) if entry.name not in NOT_LIBRARY and not entry.is_symlink()
    ]
    zones = [(path, True) for path in ("/usr/share/zoneinfo",) if os.path.isdir(path)]  # noqa: PTH112  # as above
    return [(top, False), *inside, *zones]


def _serve(
    control: socket.socket, role: str, request: dict[str, int], descriptors: list[int], paths: bool
) -> dict[str, float]:
    """Run one child to its end, or to its deadline or a word from the control socket, whichever is first."""
    zygote = os.getpid()
    child = os.fork()
    if not child:
        try:
            _become(role, request, descriptors, paths, zygote)
        finally:
            os._exit(1)
    for descriptor in descriptors:
        os.close(descriptor)
    handle = os.pidfd_open(child)
    ready, _, _ = select.select([control, handle], [], [], request["wall_s"])
    if handle not in ready:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    os.close(handle)
    _, status, usage = os.wait4(child, 0)
    while control not in ready:  # the answer is for the stop, so that both sides agree where a job ends
        ready, _, _ = select.select([control], [], [])
    if control.recv(MAX_REQUEST_BYTES) == b"":
        sys.exit()
    return {
        "exit": os.waitstatus_to_exitcode(status),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "max_rss_kib": usage.ru_maxrss,
    }


def _become(role: str, request: dict[str, int], descriptors: list[int], paths: bool, zygote: int) -> None:
    first = 3
    for place, descriptor in enumerate(descriptors):
        os.dup2(descriptor, 24 + place)
    for place in range(len(descriptors)):
        os.dup2(24 + place, first + place)
    os.closerange(first + len(descriptors), 4096)
    lockdown.die_with_parent(zygote)
    lockdown.limit_resources(request["memory_bytes"], request["cpu_s"])
    lockdown.confine_child(paths=paths)
    ROLES[role](*range(first, first + len(descriptors)))
