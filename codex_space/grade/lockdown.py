"""Take rights away from the calling process, for good: capabilities, Landlock, seccomp, resource limits; ctypes only.

Covered, on Linux x86-64 as any uid: a process after `confine_child` can compute, read and write the descriptors it holds,
start threads, and, with Landlock, read files of the standard library. It cannot write any file, open a socket, start or
signal a process, trace, change limits, attributes or credentials, or speak the 32-bit or x32 system call tables. System
calls are allowed by name; one this file does not name is refused.
Not covered: kernel bugs, timing channels, and what `stat` says about a file whose path the uid may walk (Landlock does
not cover it; without Landlock no path can be named at all, save to `stat`).
"""

import ctypes
import functools
import os
import platform
import resource
import struct

EPERM, ENOSYS = 1, 38
MACHINE = "x86_64"
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_SIGKILL = 9

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class LockdownError(OSError):
    """The kernel refused a step; nothing may run in this process."""


def _checked(result: int, step: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise LockdownError(number, f"{step}: {os.strerror(number)}")
    return result


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; `parent` is the pid seen before the fork."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "die with parent")
    if os.getppid() != parent:
        os._exit(1)


def drop_privileges() -> None:
    """Give up every capability, core dumps, being traced by the own uid, and gaining rights through exec."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    version_3, nothing = struct.pack("=II", 0x20080522, 0), struct.pack("=6I", *[0] * 6)
    _checked(_libc.syscall(126, version_3, nothing), "drop capabilities")
    _checked(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "undumpable")


def limit_files() -> None:
    """Bound what no job has more of, before the fork: no files written, no core, 32 descriptors."""
    _limit({resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: 32, resource.RLIMIT_CORE: 0, resource.RLIMIT_MEMLOCK: 0})


def limit_resources(memory_bytes: int, cpu_s: int) -> None:
    """Bound address space and CPU seconds."""
    _limit({resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_CPU: cpu_s})


def _limit(limits: dict[int, int]) -> None:
    for kind, wanted in limits.items():
        hard = resource.getrlimit(kind)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))


# Landlock: include/uapi/linux/landlock.h. The rights of each ABI are the first so many bits.
_READ_FILE, _READ_DIR = 4, 8
_FS_BITS_BY_ABI = ((5, 16), (3, 15), (2, 14), (1, 13))
_CREATE, _ADD, _RESTRICT = 444, 445, 446


def landlock_abi() -> int:
    """Return the kernel's Landlock version; 0 where there is none."""
    return max(0, _libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def restrict_files(rules: list[tuple[str, bool]]) -> None:
    """Leave only reading below these (path, whether its files and not only its listing) and no TCP."""
    abi = landlock_abi()
    if not abi:
        raise LockdownError(ENOSYS, "this kernel has no Landlock")
    rights = (1 << next(bits for least, bits in _FS_BITS_BY_ABI if abi >= least)) - 1
    tcp, scopes = (3 if abi >= 4 else 0), (3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attributes = ctypes.create_string_buffer(struct.pack("=QQQ", rights, tcp, scopes), 24)
    ruleset = _checked(_libc.syscall(_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0)), "Landlock rules")
    for path, readable in rules:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
        right = (_READ_FILE if readable else 0) | (_READ_DIR if os.path.isdir(path) else 0)  # noqa: PTH112  # no pathlib in here
        rule = ctypes.create_string_buffer(struct.pack("=Qi", right, target), 12)
        _checked(_libc.syscall(_ADD, ruleset, 1, rule, ctypes.c_uint32(0)), f"Landlock rule for {path}")
        os.close(target)
    _checked(_libc.syscall(_RESTRICT, ruleset, ctypes.c_uint32(0)), "Landlock")
    os.close(ruleset)


# seccomp: numbers of arch/x86/entry/syscalls/syscall_64.tbl. A rule is None (allowed) or a test of one argument.
Rule = tuple[str, int, tuple[int, ...]] | None
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000  # O_TMPFILE's own bit
_CLONE_THREAD, _AT_EMPTY_PATH = 0x10000, 0x1000
# F_SETOWN and F_SETSIG, of fcntl and ioctl, would have the kernel send signals on this process's behalf. F_SETFL and FIONBIO
# would leave a mark on open files that all children of a zygote share, for the next program to read.
_FCNTL, _IOCTL = (0, 1, 2, 3, 1030), (0x5401, 0x5413, 0x5450, 0x5451)

# fmt: off
_COMPUTE: dict[int, Rule] = dict.fromkeys((
    0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20, 22, 23, 24, 25, 28,  # read write close fstat poll lseek mmap..madvise
    32, 33, 34, 35, 36, 37, 38, 39, 60, 63, 79, 96, 97, 98, 99, 100,  # dup dup2 pause nanosleep itimers getpid exit uname getcwd ..times
    102, 104, 107, 108, 110, 111, 127, 130, 131, 186, 201, 202, 204,  # get*id sigpending sigsuspend sigaltstack gettid time futex affinity
    218, 219, 228, 229, 230, 231, 270, 271, 273, 292, 293, 318, 334,  # set_tid_address clocks exit_group pselect ppoll robust pipe2 getrandom rseq
))
# fmt: on
_COMPUTE |= {
    16: ("one of", 1, _IOCTL),
    72: ("one of", 1, _FCNTL),
    56: ("any bit", 0, (_CLONE_THREAD,)),
    302: ("null", 2, ()),  # prlimit64 may ask, not set
}
_PATHS: dict[int, Rule] = {
    2: ("no bit", 1, (_WRITING,)),
    257: ("no bit", 2, (_WRITING,)),
    **dict.fromkeys(
        (4, 6, 21, 89, 217, 262, 267, 269, 332, 439)
    ),  # stat lstat access readlink getdents64 and their *at forms
}
_NO_PATHS: dict[int, Rule] = {262: ("any bit", 3, (_AT_EMPTY_PATH,))}  # glibc's fstat
_FORK_AND_SERVE: dict[int, Rule] = dict.fromkeys(
    (44, 45, 46, 47, 56, 61, 62, 157, 160, 247, 302, 317, 424, 434, 436)
)  # send recv clone wait kill prctl limits seccomp pidfd close_range

_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_OP_BYTES = 8
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_AUDIT_ARCH, _X32_BIT, _CLONE3 = 0xC000003E, 0x40000000, 435


def confine_zygote(*, paths: bool) -> None:
    """Allow a zygote to compute, fork, wait, and talk over the socket it holds; `paths`: to open files for reading."""
    _install(_program(paths=paths, zygote=True))
    _program(paths=paths)  # built here once, for the children


def confine_child(*, paths: bool) -> None:
    """Allow computing and threads only; `paths`: and opening files for reading."""
    _install(_program(paths=paths))


@functools.cache
def _program(*, paths: bool, zygote: bool = False) -> bytes:
    if platform.machine() != MACHINE:
        raise LockdownError(ENOSYS, f"no system call table for {platform.machine()}")
    program = [_op(_LOAD, 4), _op(_JEQ, _AUDIT_ARCH, 1, 0), _op(_RET, _KILL)]
    program += [_op(_LOAD, 0), _op(_JGE, _X32_BIT, 0, 1), _op(_RET, _KILL)]
    program += [_op(_JEQ, _CLONE3, 0, 1), _op(_RET, _ERRNO | ENOSYS)]  # then glibc takes clone, whose flags can be seen
    rules = {**_COMPUTE, **(_PATHS if paths else _NO_PATHS), **(_FORK_AND_SERVE if zygote else {})}
    for number, rule in rules.items():
        body = _test(*rule) if rule else [_op(_RET, _ALLOW)]
        program += [_op(_JEQ, number, 0, len(body)), *body]
    program.append(_op(_RET, _ERRNO | EPERM))
    return b"".join(program)


def _install(program: bytes) -> None:
    code = ctypes.create_string_buffer(program)
    header = struct.pack("=HxxxxxxQ", len(program) // _OP_BYTES, ctypes.addressof(code))
    set_filter, all_threads = 1, 1
    _checked(_libc.syscall(317, set_filter, all_threads, header), "seccomp")


def _test(kind: str, argument: int, values: tuple[int, ...]) -> list[bytes]:
    low = 16 + 8 * argument
    allow, refuse = _op(_RET, _ALLOW), _op(_RET, _ERRNO | EPERM)
    if kind == "one of":
        jumps = [_op(_JEQ, value, len(values) - place, 0) for place, value in enumerate(values)]
        return [_op(_LOAD, low), *jumps, refuse, allow]
    if kind == "any bit":
        return [_op(_LOAD, low), _op(_JSET, values[0], 1, 0), refuse, allow]
    if kind == "no bit":
        return [_op(_LOAD, low), _op(_JSET, values[0], 0, 1), refuse, allow]
    return [_op(_LOAD, low), _op(_JEQ, 0, 1, 0), refuse, _op(_LOAD, low + 4), _op(_JEQ, 0, 1, 0), refuse, allow]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
