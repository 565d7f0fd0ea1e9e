"""Values and frames between judge and solver: exact builtin types as tagged JSON, everything else a name.

Covered: what `decode` returns was built by the reader from JSON, so no method the sender wrote can run in the reader;
a value of a class of the sender's arrives as `Opaque`, which equals nothing. Not covered: a sender that sends a right
answer it did not compute.
"""

import collections
import decimal
import fractions
import json
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

MAX_FRAME_BYTES = 128 << 20
MAX_ITERATED = 100_000
"""Items taken from an iterator a solution returned."""
MAX_RANGE = 1_000_000
"""Numbers of a range that a comparison may write out."""

_PLAIN = {type(None), bool, int, float, str}
_TYPES = {t.__name__: t for t in (int, float, str, bool, list, tuple, dict, set, frozenset, bytes, complex)}
_VIEWS = {type({}.keys()): "set", type({}.values()): "iter", type({}.items()): "iter"}
_MAPPINGS = {dict, collections.Counter, collections.OrderedDict, collections.defaultdict}
_BASES: dict[type, Callable[[Any], Any]] = {  # past whatever methods a subclass has
    int: int.__pos__,
    float: float.__pos__,
    str: str.__str__,
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    set: lambda value: set(set.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
}
PIECE_ITEMS = 4096
_BIG_BITS = 4096  # json cannot write an integer of more than 4300 digits

_encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_one_piece = json.encoder.c_make_encoder(  # ty: ignore[missing-attribute]  # made once: `JSONEncoder.encode` makes one a value
    None, _encoder.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True
)


class Opaque:
    """A value that stayed on the other side: it has a name, and equals nothing."""

    def __init__(self, name: str) -> None:
        """Keep the name of its type."""
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Answers:
    """What an iterator yielded; like the iterator, it equals no list."""

    def __init__(self, items: list[Any]) -> None:
        """Keep the items."""
        self._left = iter(items)

    def __iter__(self) -> "Answers":
        return self

    def __next__(self) -> Any:  # noqa: ANN401  # any value
        return next(self._left)


def encode(value: Any, strange: Callable[[Any], dict[str, Any]] | None = None) -> str:  # noqa: ANN401  # any value
    """Return the text of a value; `strange` gives the tag of one that has no exact form (default: its type's name).

    Raises:
        RecursionError: It is nested too deeply or holds itself.
    """
    if type(value) in _PLAIN:
        try:
            return "".join(_one_piece(value, 0))
        except ValueError:  # an integer too long for json
            return _encoder.encode(_tagged(value, _name_of, big=True))
    tag = strange or _name_of
    try:
        return "".join(_one_piece(_tagged(value, tag), 0))
    except ValueError:  # as above
        return _encoder.encode(_tagged(value, tag, big=True))


def encode_json(value: Any) -> str:  # noqa: ANN401  # any JSON value
    """Return what `encode` does, several times as fast, of a value that was read from JSON."""
    try:
        text = "".join(_one_piece(value, 0))
    except ValueError:  # as above
        return encode(value)
    return encode(value) if "{" in text else text  # a dict, perhaps


def pieces(value: Any) -> Iterator[str]:  # noqa: ANN401  # any value
    """Yield what `encode` returns, piece by piece where it is a long list or tuple: it may be larger than memory."""
    if type(value) not in {list, tuple} or len(value) <= PIECE_ITEMS:
        yield encode(value)
        return
    head, tail = ("[", "]") if type(value) is list else ('{"tuple":[', "]}")
    for start in range(0, len(value), PIECE_ITEMS):
        yield ("," if start else head) + encode(list(value[start : start + PIECE_ITEMS]))[1:-1]
    yield tail


def decode(text: str | bytes, made: Callable[[str, Any], Any] | None = None) -> Any:  # noqa: ANN401  # any value
    """Return the value; `made` builds what `strange` tagged.

    Raises:
        ValueError, TypeError, RecursionError: It is not a text `encode` writes.
    """
    return json.loads(text, object_hook=lambda tagged: _untag(tagged, made))


def _name_of(value: Any) -> dict[str, Any]:  # noqa: ANN401  # any value
    return {"opaque": type(value).__name__}


def _tagged(value: Any, strange: Callable[[Any], dict[str, Any]], *, big: bool = False) -> Any:  # noqa: ANN401, C901, PLR0911, PLR0912  # one branch a type
    kind = type(value)
    if kind in _PLAIN:
        return {"int": hex(value)} if big and kind is int and value.bit_length() > _BIG_BITS else value

    def many(items: Any) -> list[Any]:  # noqa: ANN401  # any iterable
        items = list(items)
        if not big and _PLAIN.issuperset(map(type, items)):
            return items
        return [_tagged(item, strange, big=big) for item in items]

    if kind is list:
        return many(value)
    if kind is tuple or kind is collections.deque:
        return {kind.__name__: many(value)}
    if kind is set or kind is frozenset:  # in one order whatever the hash seed: texts are compared and hashed
        return {kind.__name__: sorted(many(value), key=_encoder.encode)}
    if kind in _MAPPINGS:
        return {"dict": [many(pair) for pair in dict.items(value)]}
    if kind in {bytes, bytearray}:
        return {kind.__name__: value.decode("latin-1")}
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    if kind is decimal.Decimal or kind is fractions.Fraction:
        return {kind.__name__: str(value)}
    if kind is range:
        return {"range": [value.start, value.stop, value.step]}
    if kind in _VIEWS:
        return {_VIEWS[kind]: many(value)}
    if kind is type and _TYPES.get(value.__name__) is value:
        return {"type": value.__name__}
    if hasattr(kind, "__next__"):
        return {"iter": many(item for item, _ in zip(value, range(MAX_ITERATED), strict=False))}
    for base, plainly in _BASES.items():  # a subclass arrives as what it is based on
        if issubclass(kind, base):
            return _tagged(plainly(value), strange, big=big)
    return strange(value)


def _range(start: int, stop: int, step: int) -> range:
    found = range(start, stop, step)
    if len(found) > MAX_RANGE:
        raise ValueError(f"a range of {len(found)} numbers")
    return found


_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
    "dict": dict,
    "int": lambda text: int(text, 16),
    "bytes": lambda text: text.encode("latin-1"),
    "bytearray": lambda text: bytearray(text.encode("latin-1")),
    "complex": lambda parts: complex(*parts),
    "Decimal": decimal.Decimal,
    "Fraction": lambda text: fractions.Fraction(*map(int, text.split("/"))),  # no exponent: 1e999999999 has gigabytes
    "range": lambda parts: _range(*parts),
    "iter": Answers,
    "type": _TYPES.__getitem__,
    "opaque": lambda name: Opaque(str(name)),
}


def _untag(tagged: dict[str, Any], made: Callable[[str, Any], Any] | None) -> Any:  # noqa: ANN401  # any value
    ((tag, content),) = tagged.items()
    build = _BUILDERS.get(tag)
    if build is not None:
        return build(content)
    if made is None:
        raise ValueError(f"unknown tag {tag!r}")
    return made(tag, content)


def frame(kind: bytes, payload: bytes | bytearray = b"") -> bytes:
    """Return one frame: length, one letter, payload."""
    return struct.pack("=IB", len(payload), kind[0]) + payload


class Reader:
    """Frames from a descriptor, as many a system call as have come."""

    def __init__(self, descriptor: int, wait: Callable[[], None] = lambda: None) -> None:
        """`wait` returns when there is something to read, or raises."""
        self._descriptor, self._wait, self._buffer = descriptor, wait, bytearray()

    def next(self) -> tuple[bytes, bytes]:
        """Return (letter, payload).

        Raises:
            EOFError: The other side is gone.
            ValueError: The frame is larger than `MAX_FRAME_BYTES`.
        """
        self._fill(5)
        size, letter = struct.unpack_from("=IB", self._buffer)
        if size > MAX_FRAME_BYTES:
            raise ValueError(f"a value of {size >> 20} MiB is too large")
        self._fill(5 + size)
        payload = bytes(self._buffer[5 : 5 + size])
        del self._buffer[: 5 + size]
        return bytes((letter,)), payload

    def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            self._wait()
            got = os.read(self._descriptor, max(1 << 16, min(size, 1 << 20)))
            if not got:
                raise EOFError("the other process is gone")
            self._buffer += got


def write_all(descriptor: int, content: bytes | bytearray) -> None:
    """Write all of it."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def read_all(descriptor: int) -> bytes:
    """Read to the end and close."""
    with open(descriptor, "rb", buffering=0) as file:  # a descriptor has no path
        return file.readall()
