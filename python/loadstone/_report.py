"""What a load did, and what did not fit."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Report:
    """What was loaded, how, and how long it took. Plain values; can be pickled. str() is text for people.

    Attributes:
        missing: names of parameters that no tensor leads to, a tuple.
        unexpected: names of tensors that lead to no parameter, a tuple.
        mismatched: parameters whose tensor has another shape, a dict: name to what was expected and found.
        tied: parameters that share the memory of another, a dict: name to the other's name.
        initialised: names of parameters that got initial values, a tuple.
        n_tensors: tensors that were loaded.
        read_nbytes: bytes read from the files into memory.
        mapped_nbytes: bytes mapped in place.
        written_nbytes: bytes of new memory, or of yours, that were filled.
        n_threads: threads that worked; 0 if nothing had to be read.
        source: "map", "read", "uring", "direct", "view" (converted from where the page cache has it), "map+"
            one of the last four, "cache", "map+cache", "cache+read", or "none" for an empty load.
        reason: why mapped or read, one short phrase.
        source_reason: why read in this way, one short phrase, or None.
        fallback: what the system did not offer, one short phrase, or None.
        seconds: of the whole load, which plan_seconds (matching names and shapes), cache_seconds (looking
            into the cache, and writing to it), memory_seconds (getting memory and mapping files),
            transfer_seconds (reading and converting), init_seconds (initial values) and check_seconds
            (whether the files are what they were) make up.
        read_seconds, convert_seconds: of transfer_seconds, time in reads and time converting, each summed
            over the threads.
        cache: "hit", "stored", "nothing to store", "not stored: " and why, or None if none was asked for.
        text: what str() gives.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: dict[str, str]
    tied: dict[str, str]
    initialised: tuple[str, ...]
    n_tensors: int
    read_nbytes: int
    mapped_nbytes: int
    written_nbytes: int
    n_threads: int
    source: str
    reason: str
    source_reason: str | None
    fallback: str | None
    seconds: float
    plan_seconds: float
    memory_seconds: float
    transfer_seconds: float
    init_seconds: float
    read_seconds: float
    convert_seconds: float
    cache_seconds: float
    check_seconds: float
    cache: str | None
    text: str

    def __init__(self, values: dict[str, Any]):
        self.__dict__.update(values)
        for name in ("missing", "unexpected", "initialised"):
            self.__dict__[name] = tuple(pair[0] for pair in values[name])
        for name in ("mismatched", "tied"):
            self.__dict__[name] = dict(values[name])

    def to_dict(self) -> dict[str, Any]:
        """All of it as values that json.dumps takes."""
        values = {name: value for name, value in self.__dict__.items() if name != "text"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        first = self.text.split("\n", 1)[0]
        return f"<loadstone.Report: {first}>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.text)}</pre>"
