"""Escapes and fakes tried in the real sandbox before its first job; what gets out switches grading off.

Covered: each way out that `lockdown` and `sandbox` say they close, by a program that tries it. None does harm where it
succeeds: signals are number 0, files are traps in a temporary folder, a forked child ends at once.
Not covered: what nobody has thought of.
"""

import contextlib
import os
import re
import socket
import tempfile
import textwrap
from collections.abc import Generator
from pathlib import Path

from codex_space.core.errors import GradeError
from codex_space.grade.sandbox import Job, Limits, Sandbox, Suite

_PRELUDE = """
import ctypes, os
L = ctypes.CDLL(None, use_errno=True)
def sc(*a): return "OUT" if L.syscall(*a) >= 0 else "held"
def reads(path): return "OUT" if open(path, "rb").read(1) else "held"
def done(*_): return "OUT"
"""

_ESCAPES = {
    "environment": 'return "OUT" if set(os.environ) - {"LANG", "PATH", "PYTHONHASHSEED", "LC_CTYPE"} else "held"',
    "environment of the caller": 'return reads(f"/proc/{APP}/environ")',
    "environment of the parent": 'return reads(f"/proc/{os.getppid()}/environ")',
    "environment of process 1": 'return reads("/proc/1/environ")',
    "own environment by path": 'return reads("/proc/self/environ")',
    "memory of the caller": 'return done(open(f"/proc/{APP}/mem", "r+b"))',
    "memory of the parent": 'return done(open(f"/proc/{os.getppid()}/mem", "rb"))',
    "own memory by path": 'return done(open("/proc/self/mem", "r+b"))',
    "command line of the caller": 'return reads(f"/proc/{APP}/cmdline")',
    "descriptors of the caller": 'return done(os.listdir(f"/proc/{APP}/fd"))',
    "secret file": "return reads(SECRET)",
    "secret file by openat": "return sc(257, -100, SECRET.encode(), 0)",
    "secret file by openat2": "return sc(437, -100, SECRET.encode(), ctypes.create_string_buffer(24), 24)",
    "system file": 'return reads("/etc/passwd")',
    "installed packages": 'import glob; return reads(glob.glob(os.path.dirname(os.__file__) + "/site-packages/*/*.py")[0])',
    "list a folder": "return done(os.listdir(os.path.dirname(SECRET)))",
    "list the root": 'return done(os.listdir("/"))',
    "write beside": 'return done(open(SECRET + ".new", "w"))',
    "write here": 'return done(open("x", "w"))',
    "write shared memory": 'return done(open("/dev/shm/codex-space-escape", "w"))',
    "write the library": 'return done(open(os.path.dirname(os.__file__) + "/escape.py", "w"))',
    "write a temporary file": "import tempfile; return done(tempfile.TemporaryFile())",
    "append": 'return done(open(SECRET, "a"))',
    "truncate": "return done(os.truncate(SECRET, 0))",
    "chmod": "return done(os.chmod(SECRET, 0o777))",
    "chown": "return done(os.chown(SECRET, os.getuid(), os.getgid()))",
    "change times": "return done(os.utime(SECRET))",
    "set an attribute": 'return done(os.setxattr(SECRET, "user.x", b"1"))',
    "delete": "return done(os.unlink(SECRET))",
    "rename": 'return done(os.rename(SECRET, SECRET + "2"))',
    "link": 'return done(os.link(SECRET, SECRET + "3"))',
    "symbolic link": 'return done(os.symlink(SECRET, SECRET + "4"))',
    "make a folder": 'return done(os.mkdir(SECRET + "5"))',
    "make a pipe": 'return done(os.mkfifo(SECRET + "6"))',
    "change folder": "return done(os.chdir(os.path.dirname(SECRET)))",
    "change root": 'return done(os.chroot("/"))',
    "inherited descriptors": """
for n in range(6, 300):
    try: os.fstat(n)
    except OSError: continue
    return "OUT"
return "held" """,
    "tcp": 'import socket; return done(socket.create_connection(("127.0.0.1", PORT), 1))',
    "udp": "import socket; return done(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))",
    "unix socket": "import socket; return done(socket.socket(socket.AF_UNIX))",
    "abstract unix socket": "import socket; return done(socket.socket(socket.AF_UNIX).connect(ABSTRACT))",
    "netlink": "return sc(41, 16, 3, 0)",
    "name service": 'import socket; return done(socket.getaddrinfo("localhost", 80))',
    "socket pair": "import socket; return done(socket.socketpair())",
    "fork": """
child = os.fork()
if not child: os._exit(0)
return "OUT" """,
    "system": 'return "OUT" if os.system("true") == 0 else "held"',
    "subprocess": 'import subprocess; return done(subprocess.run(["/bin/true"]))',
    "spawn": 'return done(os.posix_spawn("/bin/true", ["true"], {}))',
    "exec": 'os.execv("/bin/true", ["true"])',
    "x32 call": "return sc(0x40000000 + 39)",
    "signal the caller": "return done(os.kill(APP, 0))",
    "signal the parent": "return done(os.kill(os.getppid(), 0))",
    "signal everyone": "return done(os.kill(-1, 0))",
    "signal a group": "return done(os.killpg(os.getpgid(APP), 0))",
    "signal by the kernel": """
import fcntl
r, w = os.pipe()
fcntl.fcntl(r, 8, APP)
return "OUT" """,
    "signal by the kernel, chosen": "import fcntl; return done(fcntl.fcntl(os.pipe()[0], 10, 9))",
    "signal by the kernel, ioctl": """
import fcntl, struct
fcntl.ioctl(os.pipe()[0], 0x5452, struct.pack("i", 1))
return "OUT" """,
    "type into the terminal": 'import fcntl; return done(fcntl.ioctl(0, 0x5412, b"x"))',
    "raise a limit": "import resource; return done(resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)))",
    "limits of the caller": "import resource; return done(resource.prlimit(APP, resource.RLIMIT_CORE, (0, 0)))",
    "outlive the parent": 'return "OUT" if L.prctl(1, 0, 0, 0, 0) == 0 else "held"',
    "become traceable": 'return "OUT" if L.prctl(4, 1, 0, 0, 0) == 0 else "held"',
    "new session": "return done(os.setsid())",
    "other user": "return done(os.setuid(os.getuid()))",
    "other core": "return done(os.sched_setaffinity(0, os.sched_getaffinity(0)))",
    "priority": "return done(os.setpriority(os.PRIO_PROCESS, 0, 1))",
}
_CALLS = {  # number and arguments that a process with rights could use
    "raw fork": (57,),
    "raw vfork": (58,),
    "raw clone": (56, 17, 0, 0, 0, 0),
    "raw clone3": (435, 0, 0),
    "trace": (101, 0, 0, 0, 0),
    "pidfd": (434, "APP", 0),
    "read another's memory": (310, "os.getppid()", 0, 0, 0, 0, 0),
    "queue a signal": (129, "APP", 0, 0),
    "signal a thread": (234, "APP", "APP", 0),
    "unshare": (272, 0x10000000),
    "mount": (165, 0, 0, 0, 0, 0),
    "io_uring": (425, 1, "ctypes.create_string_buffer(120)"),
    "memory file": (319, 'b"x"', 0),
    "secret memory": (447, 0),
    "bpf": (321, 0, 0, 0),
    "perf": (298, 0, 0, -1, -1, 0),
    "keys": (250, 0, -3, 0),
    "userfaultfd": (323, 1),
    "shared memory": (29, 0, 4096, 0o1600),
    "message queue": (68, 0, 0o1600),
    "semaphores": (64, 0, 1, 0o1600),
    "watch files": (253,),
    "personality": (135, 0xFFFFFFFF),
    "another filter": (317, 2, 0, "ctypes.create_string_buffer(4)"),
    "landlock rules": (444, 0, 0, 1),
    "timer that signals": (222, 0, 0, "ctypes.create_string_buffer(8)"),
}
_MUST_PASS = {
    "plain": "def f(x): return 2 * x",
    "threads": "import threading\ndef f(x):\n r = []\n t = threading.Thread(target=lambda: r.append(2 * x)); t.start(); t.join()\n return r[0]",
    "standard library": "import collections, itertools, re, typing, math, heapq, random\ndef f(x): return 2 * x",
}
_MUST_FAIL = {
    "equals everything": "class E:\n def __eq__(s, o): return True\ndef f(x): return E()",
    "exits with 0": "import os\ndef f(x): os._exit(0)",
    "writes to every descriptor": 'import os\ndef f(x):\n for n in range(3, 64):\n  try: os.write(n, b\'{"status":"pass","passed":9,"why":""}\')\n  except OSError: pass',
    "empty": "",
}
_DEADLY = ("x32 call",)
"""The kernel kills a process that tries it."""
_TRY_ALL = """
out = []
for n in range({count}):
    try:
        if f(n) == "OUT": out.append(f"<{{n}}>")
    except Exception: pass
assert not out, "".join(out)
"""
LIMITS = Limits(call_cpu_s=2.0, total_cpu_s=4.0, memory_bytes=2 << 30)


def escapes() -> dict[str, str]:
    """Return name -> body of `f()`, which returns "OUT" where it got out."""
    calls = {name: f"return sc({', '.join(map(str, args))})" for name, args in _CALLS.items()}
    return {**_ESCAPES, **calls}


@contextlib.contextmanager
def traps() -> Generator[str]:
    """Yield the first lines of an escape: where a secret, a listener and the calling process are."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as tcp:
        secret, abstract = Path(folder, "secret"), f"\0codex-space-{os.getpid()}"
        secret.write_text("secret")
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(abstract + str(id(unix)))
            unix.listen()
            here = f"SECRET = {str(secret)!r}\nPORT = {tcp.getsockname()[1]}\nAPP = {os.getpid()}\n"
            yield f"{here}ABSTRACT = {abstract + str(id(unix))!r}\n{_PRELUDE}"
        if secret.read_text() != "secret" or len(os.listdir(folder)) != 1:  # noqa: PTH208  # names only
            raise GradeError("a program in the sandbox changed a file", cure="Evaluation of generated code stays off.")


def escape_job(name: str, head: str) -> Job:
    """Return the job that passes where that escape works."""
    program = head + _function("f", escapes()[name])
    return Job(name, (program,), (_suite('assert f() == "OUT"'),))


def prove(sandbox: Sandbox) -> None:
    """Try everything; what is not deadly in one process, which has to live to its end.

    Raises:
        GradeError: Something escaped, a fake passed, or a plain program failed.
    """
    answers, tried = {**_MUST_PASS, **_MUST_FAIL}, escapes()
    suite = _suite("assert f(1) == 2\nassert f(3) == 6")
    together = [name for name in tried if name not in _DEADLY]
    with traps() as head:
        functions = [_function(f"f{place}", tried[name]) for place, name in enumerate(together)]
        program = head + "\n".join(functions) + "\ndef f(n): return globals()[f'f{n}']()\n"
        jobs = [Job("all", (program,), (_suite(_TRY_ALL.format(count=len(together))),))]
        jobs += [escape_job(name, head) for name in _DEADLY if name in tried]
        jobs += [Job(name, (program,), (suite,)) for name, program in answers.items()]
        verdicts = {verdict.job_id: verdict for verdict in sandbox.grade(jobs)}
    passed = {name for name, verdict in verdicts.items() if verdict.passed("test")} - {"all"}
    wrong = sorted((passed - set(_MUST_PASS)) | (set(_MUST_PASS) - passed))
    if not verdicts["all"].passed("test"):
        out = re.findall(r"<(\d+)>", verdicts["all"].outcomes["test"].why)
        wrong += [together[int(place)] for place in out] or [verdicts["all"].outcomes["test"].why]
    if wrong:
        raise GradeError(
            "the sandbox does not hold on this machine",
            where=f"tried: {', '.join(wrong[:5])}",
            cure="Evaluation of generated code stays off; everything else works.",
        )


def _function(name: str, body: str) -> str:
    return f"def {name}():\n{textwrap.indent(body.strip(), ' ')}\n"


def _suite(test: str) -> Suite:
    return Suite("test", {"kind": "program", "setup": "", "test": test}, ("f",), LIMITS)
