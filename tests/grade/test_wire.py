"""Values cross between processes as what they are, and nothing of the sender's runs in the reader."""

import collections
import decimal
import fractions
import json

import pytest

from codex_space.grade import wire

EXACT = [
    None, True, 0, -1, 2**63, 10**5000, -(10**5000), 1.5, -0.0, float("inf"), "", "é\n\0", "\ud800", [], [1, "a", None], (), (1, (2, [3])),
    {1, 2}, frozenset({(1, 2)}), {"a": 1, 2: (3,)}, {(1, 2): {"b"}}, b"\xff", bytearray(b"x"), 1 + 2j, collections.deque([1]),
    decimal.Decimal("1.10"), fractions.Fraction(1, 3), range(1, 9, 2), int, list, {"tuple": [1]}, {"opaque": "x"},
]  # fmt: skip


@pytest.mark.parametrize("value", EXACT, ids=lambda value: repr(type(value)))
def test_builtin_values_arrive_as_they_were(value):
    found = wire.decode(wire.encode(value))
    assert type(found) is type(value)
    assert found == value


@pytest.mark.parametrize("base", [int, float, str, list, tuple, set, dict])
def test_a_subclass_arrives_as_what_it_is_based_on_past_its_own_methods(base):
    lies = {
        name: lambda *_: 1 / 0
        for name in ("__eq__", "__iter__", "__str__", "__repr__", "__int__", "__len__", "__reduce__")
    }
    value = type("Liar", (base,), {**lies, "__hash__": base.__hash__})()
    assert wire.decode(wire.encode(value)) == base()


def test_other_objects_arrive_as_a_name_that_equals_nothing():
    class Same:
        def __eq__(self, other):
            return True

        __hash__ = None

    found = wire.decode(wire.encode(Same()))
    assert type(found) is wire.Opaque
    assert repr(found) == "<Same>"
    assert found != 1
    assert found != wire.decode(wire.encode(Same()))


def test_iterators_and_views():
    assert list(wire.decode(wire.encode(iter([1, 2])))) == [1, 2]
    assert wire.decode(wire.encode(iter([1]))) != [1]
    assert wire.decode(wire.encode({1: 2}.keys())) == {1}
    assert len(list(wire.decode(wire.encode(iter(range(10**9)))))) == wire.MAX_ITERATED


def test_what_holds_itself_or_is_too_deep_is_refused():
    own = []
    own.append(own)
    deep = []
    for _ in range(10**5):
        deep = [deep]
    for value in (own, deep):
        with pytest.raises(RecursionError):
            wire.encode(value)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 9000])
@pytest.mark.parametrize("kind", [list, tuple])
def test_pieces_are_the_whole(kind, size):
    value = kind((n, "x") for n in range(size))
    assert "".join(wire.pieces(value)) == wire.encode(value)


@pytest.mark.parametrize(
    "text",
    ["", "{", "nul", '{"eval":1}', '{"tuple":1}', '{"tuple":[],"set":[]}', "{}", '{"int":"z"}', '{"set":[[1]]}', '{"object":0}', "[" * 10**5,
     '{"complex":["x"]}', '{"type":"os"}', '{"Fraction":"1/0"}', "1" * 5000],
)  # fmt: skip
def test_what_encode_never_writes_is_refused(text):
    with pytest.raises((ValueError, TypeError, RecursionError, KeyError, ArithmeticError)):
        wire.decode(text)


def test_a_frame_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "frames"
    path.write_bytes(wire.frame(b"v", b"12") + b"\xff\xff\xff\xffv")
    with path.open("rb") as file:
        reader = wire.Reader(file.fileno())
        assert reader.next() == (b"v", b"12")
        with pytest.raises(ValueError, match="too large"):
            reader.next()


def test_equal_texts_are_equal_values_and_types_show():
    texts = [wire.encode(value) for value in (1, 1.0, True, "1", [1], (1,), {1})]
    assert len(set(texts)) == len(texts)
    assert json.loads(wire.encode([1, "a"])) == [1, "a"]


@pytest.mark.parametrize(
    "value",
    [[], [[1, "a", None, 1.5]], [{"a": [1]}], ["{"], ['{"tuple": [1]}'], {"tuple": [1]}, [10**5000], [float("nan")]],
)
def test_a_value_from_json_has_the_same_text_by_the_short_way(value):
    assert wire.encode_json(value) == wire.encode(value)
