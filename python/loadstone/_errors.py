"""What can go wrong, as exceptions: one class for each group of errors, and some for single ones.

Where Python has an exception that users would catch, ours is one, too.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ._report import Report


class LoadstoneError(Exception):
    """The base of all.

    .code is the library's status (see loadstone.h), 0 if the error is the package's own. .file, .tensor (or
    parameter, or field) and .offset (a byte in the file) say what it is about; each may be None. The message
    shows long paths shortened at their left; .file is whole.
    """

    def __init__(
        self,
        message: str,
        code: int = 0,
        file: str | None = None,
        tensor: str | None = None,
        offset: int | None = None,
    ):
        super().__init__(message)
        self.message = message
        self.code = code
        self.file = file
        self.tensor = tensor
        self.offset = offset

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> Any:
        return type(self), (self.message,), dict(self.__dict__)


class ArgumentError(LoadstoneError, ValueError):
    """An argument is out of range, or contradicts another."""


class NameNotFoundError(ArgumentError, KeyError):
    """No such name, or one that is there already."""


class FileError(LoadstoneError, OSError):
    """The operating system refused; .errno and .strerror say why, .filename is .file."""

    def __reduce__(self) -> Any:
        system = {"errno": self.errno, "strerror": self.strerror, "filename": self.filename}
        return type(self), (self.message,), {**self.__dict__, **system}


class NotFoundError(FileError, FileNotFoundError):
    """No checkpoint, config or file at that path."""


class ChangedError(FileError):
    """A file changed or shrank since it was opened."""


class MalformedError(LoadstoneError, ValueError):
    """A file breaks the rules of its format."""


class TruncatedError(MalformedError):
    """A file ends before its header says that it does."""


class NotWeightsError(MalformedError):
    """A git-lfs pointer, a web page, or another file with a weights' name."""


class UnsupportedError(LoadstoneError, ValueError):
    """Valid, but not something that this version can do."""


class MismatchError(LoadstoneError, ValueError):
    """Checkpoint and network do not fit; .report says how, if it was a load."""

    report: Report | None = None


class OutOfMemoryError(LoadstoneError, MemoryError):
    """Memory could not be had."""


class CancelledError(LoadstoneError):
    """A load was cancelled."""


_GROUPS: dict[int, type[LoadstoneError]] = {
    1: ArgumentError,
    2: FileError,
    3: MalformedError,
    4: UnsupportedError,
    5: MismatchError,
    6: OutOfMemoryError,
    7: CancelledError,
}

_CODES: dict[int, type[LoadstoneError]] = {
    -11: NameNotFoundError,
    -21: NotFoundError,
    -22: ChangedError,
    -31: TruncatedError,
    -32: NotWeightsError,
}


def make_error(
    code: int,
    message: str,
    file: str | None,
    tensor: str | None,
    offset: int | None,
    errno: int,
    report: dict[str, Any] | None,
) -> LoadstoneError:
    """The exception for an error of the library; _core calls this."""
    cls = _CODES.get(code) or _GROUPS.get(-code // 10, LoadstoneError)
    error = cls(message, code, file, tensor, offset)
    if isinstance(error, OSError):
        error.filename = file
        if errno:
            error.errno, error.strerror = errno, os.strerror(errno)
    if report is not None and isinstance(error, MismatchError):
        from ._report import Report

        error.report = Report(report)
    return error


def system_error(error: OSError, path: str | os.PathLike[str]) -> LoadstoneError:
    """The exception for a file that Python could not read."""
    name = os.fsdecode(path)
    shown = name.encode(errors="surrogateescape").decode(errors="replace")
    code = -21 if isinstance(error, (FileNotFoundError, NotADirectoryError)) else -20
    return make_error(
        code, f"{shown}: cannot be opened: {error.strerror}", name, None, None, error.errno or 0, None
    )


def name_file(error: LoadstoneError, paths: Iterable[str | os.PathLike[str]]) -> None:
    """Make .file whole, if messages show it shortened and it is one of paths, in one, or beside one."""
    if error.file is None or not error.file.startswith("..."):
        return
    shown = error.file[3:]
    # Where what is shown of a path may end, and that of a file in it begin.
    ends = [n for n in range(len(shown), 0, -1) if shown[n:][:1] in ("", "/")]
    names = [os.fsdecode(path) for path in paths]
    for name in [*names, *(name.rstrip("/") for name in names), *map(os.path.dirname, names)]:
        for n in ends:
            if name.endswith(shown[:n]):
                error.file = name + shown[n:]
                if isinstance(error, OSError):
                    error.filename = error.file
                return
