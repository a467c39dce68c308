"""What a load did, and what did not fit."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Report:
    """What was loaded, how, and how long it took. Plain values; can be pickled. str() is text for people.

    missing, unexpected and initialised are tuples of names; mismatched and tied are dicts from names to what
    is to be
    said of them. The others have the names and meanings of lds_report_stats in loadstone.h.
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
