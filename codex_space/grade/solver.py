"""The process a candidate program runs in: it answers calls with values, and knows neither tests nor verdict."""

import builtins
import collections
import contextlib
import hashlib
import json
import os
import sys
import time
import types
from collections.abc import Callable
from typing import Any

from codex_space.grade import wire

DIGEST_BYTES = 16_384
"""A longer answer is first offered as its SHA-256, so that a right one of 100 MiB need not travel."""
FLUSH_S, FLUSH_CHARS = 0.01, 32_768
_TOLD_CHARS = 200
_LONG = {list, tuple}


def main(job: int, calls: int, answers: int) -> None:
    """Read the programs, load one when told and answer until the judge is gone."""
    programs = json.loads(wire.read_all(job))
    wire.write_all(answers, wire.frame(b"p", str(os.getpid()).encode()))  # before any line of the program
    _Solver(programs, wire.Reader(calls), answers).serve()


def warm_up() -> None:
    """Answer calls of a program of ours, into the null device."""
    calls, answers = os.pipe(), os.open(os.devnull, os.O_WRONLY)
    solver = _Solver(["def f(x):\n    return x\n"], wire.Reader(calls[0]), answers)
    asked = {b"l": b'{"names": ["f"], "live": false}', b"m": b'{"name": "f", "slow": []}\n[[[1]],["a"]]'}
    wire.write_all(calls[1], b"".join(wire.frame(kind, payload) for kind, payload in asked.items()))
    os.close(calls[1])
    with contextlib.suppress(EOFError):
        solver.serve()
    os.close(calls[0])
    os.close(answers)
    del sys.modules["solution"]


class _Solver:
    """The program's names, and the objects of it the judge holds by number."""

    def __init__(self, programs: list[str], reader: wire.Reader, answers: int) -> None:
        self._programs, self._reader, self._answers = programs, reader, answers
        self._live, self._objects = False, list[object]()
        self._functions: dict[str, Callable[..., Any]] = {}
        self._pending, self._pending_chars, self._flushed = list[str](), 0, time.monotonic()

    def serve(self) -> None:
        """Answer requests until the judge is gone."""
        while True:
            kind, payload = self._reader.next()
            head, _, calls = payload.partition(b"\n")
            request = json.loads(head)
            if kind == b"l":
                self._load(request["names"], live=request["live"])
            elif kind == b"m":
                self._answer_many(request, calls)
            else:
                self._answer_one(request)

    def _load(self, names: list[str], *, live: bool) -> None:
        """Run the first of the programs that compiles in a module of its own; what is left of an earlier one is let go."""
        module = types.ModuleType("solution")
        module.__dict__["__builtins__"] = builtins
        sys.modules["solution"] = module
        self._live, self._objects = live, []
        try:
            exec(_first_that_compiles(self._programs), module.__dict__)  # noqa: S102  # that is what this process is for
            self._functions = {name: _function(module, name) for name in names}
        except BaseException as error:  # noqa: BLE001  # SystemExit and all: whatever a program does is an answer
            self._send(b"x", _told(error))
            os._exit(0)
        self._send(b"r", b"")

    def _answer_many(self, request: dict[str, Any], calls: bytes) -> None:
        """Answer a list of calls; short answers that are ready together go as lines of one frame."""
        function = self._functions[request["name"]]
        slow = set(request["slow"])
        for place, arguments in enumerate(wire.decode(calls)):
            if place in slow:
                self._flush()
            try:
                value = function(*arguments)
                if type(value) in _LONG and len(value) > wire.PIECE_ITEMS:
                    self._offer(value)
                    continue
                text = wire.encode(value)
                if len(text) > DIGEST_BYTES:
                    self._offer(value)
                    continue
            except BaseException as error:  # noqa: BLE001  # as above
                self._send(b"e", _told(error))
                continue
            self._pending.append(text)
            self._pending_chars += len(text)
            if self._pending_chars > FLUSH_CHARS or time.monotonic() - self._flushed > FLUSH_S:
                self._flush()
        self._flush()

    def _offer(self, value: object) -> None:
        """Offer a long answer by its SHA-256."""
        digest, kept, size = hashlib.sha256(), bytearray(), 0
        for piece in wire.pieces(value):
            content = piece.encode()
            digest.update(content)
            size += len(content)
            kept += content if size <= wire.MAX_FRAME_BYTES else b""
        self._send(b"h", digest.hexdigest().encode())
        if self._reader.next()[0] == b"n":
            return
        if size > wire.MAX_FRAME_BYTES:
            raise OverflowError(f"an output of {size >> 20} MiB that is not the expected one")
        self._send(b"v", kept)

    def _answer_one(self, request: dict[str, Any]) -> None:
        try:
            content = wire.decode(request["content"], self._object)
            if request["do"] == "call":
                answer = self._functions[request["name"]](*content[0], **content[1])
            elif request["do"] == "get":
                answer = getattr(*content)
            else:
                answer = setattr(*content)
            text = wire.encode(answer, self._handle if self._live else None)
            self._send(b"v", text.encode())
        except BaseException as error:  # noqa: BLE001  # as above
            self._send(b"e", _told(error))

    def _handle(self, value: object) -> dict[str, Any]:
        self._objects.append(value)
        return {"object": len(self._objects) - 1}

    def _object(self, tag: str, number: int) -> object:
        if tag != "object":
            raise ValueError(tag)
        return self._objects[number]

    def _send(self, kind: bytes, payload: bytes | bytearray) -> None:
        self._flush()
        wire.write_all(self._answers, wire.frame(kind, payload))

    def _flush(self) -> None:
        if self._pending:
            wire.write_all(self._answers, wire.frame(b"v", "\n".join(self._pending).encode()))
        self._pending, self._pending_chars, self._flushed = [], 0, time.monotonic()


def _function(module: types.ModuleType, name: str) -> Callable[..., Any]:
    found = module.__dict__.get(name)
    if not callable(found):
        raise TypeError(f"the program defines no function {name!r}")
    return found


def _first_that_compiles(programs: list[str]) -> types.CodeType:
    errors: collections.deque[SyntaxError] = collections.deque()
    for program in programs:
        try:
            return compile(program, "<solution>", "exec", dont_inherit=True)
        except SyntaxError as error:
            errors.append(error)
    raise errors[0]


def _told(error: BaseException) -> bytes:
    try:
        text = str(error)[:_TOLD_CHARS]
    except BaseException:  # noqa: BLE001  # its __str__ is the program's
        text = ""
    return json.dumps([type(error).__name__, text]).encode()
