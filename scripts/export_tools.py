"""Set up what exports need (`make export-tools`): llama-cpp-python built for any x86-64 of the last ten years, and llama.cpp's converter.

Both come from one source package of PyPI, pinned by version and hash, so that converter and library are of one commit.
What was built is kept in the user's cache folder; a second set-up takes seconds. Only the standard library is used.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Generator
from pathlib import Path

VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"  # pragma: allowlist secret
# Without -march=native: the library has to run where the image does, and AMX kernels crash on quantised models
# (ggml-org/llama.cpp issue 20824). The rest is not needed for a library: no tools, no server, no multimodal part.
FLAGS = (
    "-DGGML_NATIVE=OFF", "-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON", "-DLLAVA_BUILD=OFF",
    "-DLLAMA_BUILD_TOOLS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_OPENSSL=OFF",
)  # fmt: skip
# llama.cpp's helpers for its own tools, a fifth of the build; the sdist's CMakeLists.txt sets it without asking.
COMMON_ON, COMMON_OFF = (f'set(LLAMA_BUILD_COMMON {word} CACHE BOOL "Build llama.cpp common' for word in ("ON", "OFF"))
CONVERTER = ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py", "conversion", "gguf-py", "LICENSE")
BUILT = "built.json"
FACTS = {"version": VERSION, "sha256": SHA256, "flags": list(FLAGS)}


class SetUpError(Exception):
    """One sentence: what is missing and what to do."""


def main() -> int:
    """Install wheel and converter into this interpreter's environment; 0 where both are there afterwards."""
    try:
        if not _is_installed():
            with _only_one(_cache()) as cache:
                wheel = next(cache.glob("*.whl"), None) or _build(cache)
                _pip(
                    "install",
                    "--no-deps",
                    "--force-reinstall",
                    str(wheel),
                    environ=dict(os.environ),
                    log=cache / "install.log",
                )
    except SetUpError as error:
        print(f"export tools: {error}", file=sys.stderr)
        return 1
    print(f"export tools: llama-cpp-python {VERSION} and its converter are in {sys.prefix}")
    return 0


def _cache() -> Path:
    """Return the folder of what is built for these flags and this kind of machine."""
    made_for = [VERSION, SHA256, *FLAGS, COMMON_OFF, platform.machine(), sys.platform, *platform.libc_ver()]
    key = hashlib.sha256("\n".join(made_for).encode()).hexdigest()[:16]
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codex-space" / "llama.cpp" / key


@contextlib.contextmanager
def _only_one(folder: Path) -> Generator[Path]:
    """Two set-ups at once build once."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _build(cache: Path) -> Path:
    if not shutil.which("c++") and not shutil.which("g++"):
        raise SetUpError("there is no C++ compiler. Install g++ (apt-get install g++) and run make export-tools again.")
    print("export tools: building llama.cpp once, some minutes on two cores", flush=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        folder = Path(temporary)
        source = _unpack(_download(folder), folder)
        cmake = source / "CMakeLists.txt"
        text = cmake.read_text(encoding="utf-8")
        if COMMON_ON not in text:
            raise SetUpError("the source package is not the one this was written for.")
        cmake.write_text(text.replace(COMMON_ON, COMMON_OFF), encoding="utf-8")
        _add_converter(source)
        scripts = sysconfig.get_path("scripts")
        environ = {**os.environ, "CMAKE_ARGS": " ".join(FLAGS), "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
        built = ("wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source))
        _pip(*built, environ=environ, log=cache / "build.log")
        (wheel,) = folder.glob("*.whl")
        return wheel.replace(cache / wheel.name)


def _download(folder: Path) -> Path:
    wanted = folder / "wanted.txt"
    wanted.write_text(f"llama-cpp-python=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
    _pip(
        "download", "--no-deps", "--no-build-isolation", "--no-binary", "llama-cpp-python", "--require-hashes",
        "-r", str(wanted), "-d", str(folder), environ=dict(os.environ), log=folder / "download.log",
    )  # fmt: skip
    (found,) = folder.glob("llama_cpp_python-*.tar.gz")
    return found


def _unpack(package: Path, folder: Path) -> Path:
    with tarfile.open(package) as archive:
        archive.extractall(folder, filter="data")
    return folder / package.name.removesuffix(".tar.gz")


def _add_converter(source: Path) -> None:
    """Make the converter part of the package, as llama_cpp/converter: what installs one installs the other."""
    target, llama = source / "llama_cpp" / "converter", source / "vendor" / "llama.cpp"
    target.mkdir()
    for name in CONVERTER:
        (shutil.copytree if (llama / name).is_dir() else shutil.copyfile)(llama / name, target / name)
    (target / BUILT).write_text(json.dumps(FACTS), encoding="utf-8")


def _is_installed() -> bool:
    """Whether the very build this script makes is in this environment."""
    found = importlib.util.find_spec("llama_cpp")
    built = Path(found.origin).parent / "converter" / BUILT if found and found.origin else None
    return built is not None and built.is_file() and json.loads(built.read_text(encoding="utf-8")) == FACTS


def _pip(*arguments: str, environ: dict[str, str], log: Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        told = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "no message")
        raise SetUpError(f"pip {arguments[0]} failed ({told.strip()[:300]}). The log of a build is {log}.")


if __name__ == "__main__":
    sys.exit(main())
