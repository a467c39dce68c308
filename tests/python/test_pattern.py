"""Globs beside fnmatch.fnmatchcase: the same names match."""

import fnmatch
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st


class Matcher:
    """lds_glob_match in a process of its own, asked for one pair after another."""

    def __init__(self, program: Path):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, glob: str, name: str) -> bool:
        self.process.stdin.write(f"{glob}\0{name}\0".encode())
        self.process.stdin.flush()
        return {b"0\n": False, b"1\n": True}[self.process.stdout.readline()]


@pytest.fixture(scope="session")
def matches(build_dir):
    one = Matcher(build_dir / "tests" / "glob_match")
    yield one
    one.process.stdin.close()
    assert one.process.wait(timeout=30) == 0


def compare(matches, glob: str, name: str) -> None:
    # fnmatch drops an empty range, [b-a!x], and then takes the ! that it left first for a negation.
    assume(not re.search("-.!", glob, re.DOTALL))
    assert matches(glob, name) == fnmatch.fnmatchcase(name, glob), (glob, name)


relaxed = settings(max_examples=1000, deadline=None)
few = st.sampled_from("ab.é")
items = ["*", "?", "[", "]", "!", "-", "^", "\\", "a", "b", "c", ".", "é", "[a-c]", "[!b]"]
globs = st.lists(st.sampled_from(items))
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
sets = st.text("]!-^\\[abc.é&~|", max_size=6)


@relaxed
@given(globs.map("".join), st.text("abc.é-]![^\\", max_size=8))
def test_any_glob_on_any_name(matches, glob, name):
    compare(matches, glob, name)


@relaxed
@given(sets, st.sampled_from("]!-^\\[abc.é&~|x"))
def test_sets(matches, inside, character):
    compare(matches, f"[{inside}]", character)


@relaxed
@given(st.lists(few, max_size=12).map("".join), st.data())
def test_globs_that_were_made_of_the_name(matches, name, data):
    """Some characters of the name, and items for the others: matches are common then."""
    items = st.sampled_from(["*", "?", "[a-b.]", "[!a]", "**", None])
    glob = "".join(item if (item := data.draw(items)) else character for character in name)
    compare(matches, glob, name)


@relaxed
@given(texts, texts)
def test_any_text(matches, glob, name):
    compare(matches, glob, name)
    compare(matches, f"*{glob}*", name)
