"""The JSON reader beside CPython's: the same texts accepted, with the same values."""

import json
import math
import re
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

MAX_DEPTH = 256
HERE = Path(__file__).resolve().parent


class Echo:
    """The reader in a process of its own, asked for one text after another."""

    def __init__(self, program: Path):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, text: bytes) -> str:
        self.process.stdin.write(struct.pack("<I", len(text)) + text)
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the reader died on {text!r}"
        return line.decode("utf-8", "backslashreplace").rstrip("\n")


@pytest.fixture(scope="session")
def echo(build_dir):
    program = build_dir / "tests" / "json_echo"
    assert program.exists(), f"{program} is missing: build the tree first"
    one = Echo(program)
    yield one
    one.process.stdin.close()
    assert one.process.wait(timeout=30) == 0


class Refused(Exception):
    pass


def refuse_constant(name):
    raise Refused(f"{name} is not JSON")


def describe_number(text: str) -> str:
    """As json_echo puts a number: the text, and its values where they fit."""
    integer = re.fullmatch(r"-?\d+", text)
    value = float(text)
    u64 = text if integer and text[0] != "-" and int(text) < 2**64 else "-"
    i64 = str(int(text)) if integer and -(2**63) <= int(text) < 2**63 else "-"
    return f"n:{text}:{u64}:{i64}:{format(value, '.17g') if math.isfinite(value) else '-'}"


def describe_text(kind: str, text: str) -> str:
    try:
        return f"{kind}:{text.encode().hex()}"
    except UnicodeEncodeError as lone_surrogate:
        raise Refused("a lone surrogate") from lone_surrogate


class Number(str):
    """The text of a number, told from a string."""


class Pairs(list):
    """The fields of an object, told from an array."""


def describe(value, depth: int = 1) -> list[str]:
    if depth > MAX_DEPTH + 1:
        raise Refused("too deep")
    if isinstance(value, Number):
        return [describe_number(value)]
    if isinstance(value, str):
        return [describe_text("s", value)]
    if isinstance(value, Pairs):
        if depth > MAX_DEPTH:
            raise Refused("too deep")
        fields = [[describe_text("k", key), *describe(field, depth + 1)] for key, field in value]
        return ["{", *(token for field in fields for token in field), "}"]
    if isinstance(value, list):
        if depth > MAX_DEPTH:
            raise Refused("too deep")
        return ["[", *(token for element in value for token in describe(element, depth + 1)), "]"]
    return [json.dumps(value)]


def reference(text: bytes) -> str | None:
    """What json_echo is to print; None if the text is to be refused."""
    try:
        value = json.loads(
            text.decode("utf-8", "strict"),
            parse_int=Number,
            parse_float=Number,
            parse_constant=refuse_constant,
            object_pairs_hook=Pairs,
        )
        return " ".join(["ok", *describe(value)])
    except (ValueError, Refused, RecursionError):
        return None


def compare(echo: Echo, text: bytes) -> None:
    found = echo(text)
    expected = reference(text)
    if expected is None:
        assert found.startswith("error "), f"{text!r}: accepted: {found}"
        offset = int(found.split()[1])
        assert 0 <= offset <= len(text)
        assert found.endswith(f"(at byte {offset})")
    else:
        assert found == expected, repr(text)


relaxed = settings(max_examples=300, deadline=None)

numbers = st.one_of(
    st.integers().map(str),
    st.integers(-(2**65), 2**65).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?\Z"),
)
strings = st.text(st.characters(codec="utf-8"))


@st.composite
def documents(draw) -> bytes:
    """A text that is JSON, with white space and escapes as they come."""
    space = st.text(" \t\r\n", max_size=2)

    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=draw(st.booleans())) if text else '""'

    def write(value) -> str:
        if isinstance(value, dict):
            fields = [
                f"{draw(space)}{quoted(k)}{draw(space)}:{draw(space)}{write(v)}{draw(space)}"
                for k, v in value.items()
            ]
            return "{" + ",".join(fields) + "}"
        if isinstance(value, list):
            return "[" + ",".join(f"{draw(space)}{write(v)}{draw(space)}" for v in value) + "]"
        if isinstance(value, Number):
            return value
        return quoted(value) if isinstance(value, str) else json.dumps(value)

    leaves = st.one_of(st.none(), st.booleans(), numbers.map(Number), strings)
    values = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4)
    )
    return (draw(space) + write(draw(values)) + draw(space)).encode()


PIECES = [
    *'{}[],:"\\ \n\t\r-+.eE019utfn',
    *[
        "true",
        "false",
        "null",
        "NaN",
        "Infinity",
        '"a"',
        '"a":',
        "1.5e3",
        "\\u",
        "\\u00e9",
        "\\ud834",
        "\\udd1e",
    ],
    *["\\n", "\\/", "\x00", "\x1f", "\x7f", "é", "€", "𝄞", "\ufeff", "\u2028", "long plain text"],
]


@relaxed
@given(documents())
def test_what_is_json_is_accepted(echo, text):
    assert reference(text) is not None
    compare(echo, text)


@relaxed
@given(documents(), st.data())
def test_what_is_nearly_json_is_judged_alike(echo, text, data):
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(at, min(at + 3, len(text))))
        new = data.draw(st.one_of(st.binary(max_size=2), st.sampled_from(PIECES).map(str.encode)))
        text = text[:at] + new + text[end:]
    compare(echo, text)


@relaxed
@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_tokens_in_any_order_are_judged_alike(echo, pieces):
    compare(echo, "".join(pieces).encode())


@relaxed
@given(st.lists(st.sampled_from(PIECES[8:]), max_size=8))
def test_strings_of_any_pieces_are_judged_alike(echo, pieces):
    compare(echo, f'"{"".join(pieces)}"'.encode())


@relaxed
@given(st.binary(max_size=24))
def test_strings_of_any_bytes_are_judged_alike(echo, text):
    compare(echo, b'"' + text + b'"')


@relaxed
@given(numbers)
def test_numbers_have_the_same_values(echo, text):
    compare(echo, text.encode())


@relaxed
@given(st.text("0123456789.eE+-", max_size=12))
def test_what_is_nearly_a_number_is_judged_alike(echo, text):
    compare(echo, text.encode())


@pytest.mark.parametrize("depth", [1, 2, 63, 64, 65, 255, 256, 257, 300])
@pytest.mark.parametrize("ends", ["[]", ('{"a":', "}")])
def test_depth_is_bounded(echo, depth, ends):
    inside = "1" if len(ends[0]) > 1 else ""
    compare(echo, (ends[0] * depth + inside + ends[1] * depth).encode())


def test_cases_of_the_unit_test_are_judged_alike(echo):
    """The conformance cases in C are judged by CPython too, so that they are not one reader's opinion."""
    source = (HERE.parent / "unit" / "test_json.c").read_text(encoding="utf-8")
    for name, accepted in (("accepted", True), ("refused", False)):
        table = source.split(f"}} {name}[] = {{")[1].split("};")[0]
        cases = re.findall(r'\{T\("((?:[^"\\]|\\.)*)"\)', table)
        assert len(cases) > 80
        for case in cases:
            text = case.encode().decode("unicode_escape").encode("latin-1")
            assert (reference(text) is not None) == accepted, case
            compare(echo, text)
