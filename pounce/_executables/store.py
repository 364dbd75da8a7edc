"""A folder of entries that belong to one user: written whole or not at all, checked before they are trusted."""

import contextlib
import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path


VARIABLE = "POUNCE_CACHE_DIR"
MAGIC = b"pounce program 1\n"
SUFFIX = ".program"
LARGEST = 2**30  # bytes of all entries
KEPT_SHARE = 0.75  # of them, when entries have to go


class Store:
    """Entries in a folder, each under a key of hexadecimal digits.

    Entries become code when they are loaded. So the folder and its entries must belong to the user and be closed to others
    (on systems that know owners), and an entry that is not what was written under its key is not returned. Processes may use one
    folder at the same time: entries are renamed into it when they are complete, and one that is gone is none.
    """

    HEAD = len(MAGIC) + 32  # bytes before the content

    def __init__(self, folder: Path, largest: int = LARGEST):
        self.folder, self.largest = folder, largest
        self._usable: bool | None = None
        self._warned = False

    def usable(self) -> bool:
        """Whether the folder is there and nobody else's. Makes it; warns where it cannot be used."""
        if self._usable is None:
            trouble = self._trouble()
            self._usable = trouble is None
            if trouble is not None:
                self.warn(f"{trouble}; compiled programs are not kept")
        return self._usable

    def _trouble(self) -> str | None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.folder.stat()
            if not hasattr(os, "geteuid"):
                return None
            if status.st_uid != os.geteuid():
                return f"{self.folder} belongs to another user"
            if status.st_mode & 0o077:
                self.folder.chmod(0o700)
        except OSError as error:
            return f"{self.folder} cannot be used ({error.strerror or error})"
        return None

    @staticmethod
    def sealed(key: str, body: bytes) -> bytes:
        """What is written: the content behind a digest of it and of its key."""
        return MAGIC + hashlib.sha256(key.encode() + body).digest() + body

    def _path(self, key: str) -> Path:
        return self.folder / (key + SUFFIX)

    def read(self, key: str) -> bytes | None:
        """The entry, or None if there is none. One that cannot be trusted is removed with a warning."""
        if not self.usable():
            return None
        path = self._path(key)
        try:
            with open(path, "rb", opener=_no_link) as file:
                status = os.fstat(file.fileno())
                content = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            return self.distrust(key, f"cannot be read ({error.strerror or error})")
        if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
            return self.distrust(key, "can be written by others")
        body = content[self.HEAD :]
        if content != self.sealed(key, body):
            return self.distrust(key, "is damaged")
        with contextlib.suppress(OSError):
            os.utime(path)  # entries that nobody asks for go first
        return body

    def write(self, key: str, body: bytes) -> None:
        """Keep an entry. Where that is impossible a warning says so, once."""
        if not self.usable():
            return
        try:
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(self.sealed(key, body))
                os.replace(name, self._path(key))
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
        except OSError as error:
            self.warn(f"{self.folder} cannot be written ({error.strerror or error}); compiled programs are not kept")
            return
        self._make_room()

    def distrust(self, key: str, why: str) -> None:
        """Remove an entry that cannot be used."""
        self.warn(f"{self._path(key)} {why}; what it was is compiled again")
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def warn(self, text: str) -> None:
        """Once for a store: the rest would say the same."""
        if not self._warned:
            self._warned = True
            warnings.warn(f"pounce.cache: {text}", RuntimeWarning, stacklevel=2)

    def entries(self) -> list[tuple[float, int, Path]]:
        """When each was last asked for, how many bytes it has, and where it is."""
        return sorted(self._entries())

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        with contextlib.suppress(OSError), os.scandir(self.folder) as found:
            for each in found:
                if each.name.endswith(SUFFIX):
                    with contextlib.suppress(OSError):
                        status = each.stat(follow_symlinks=False)
                        yield status.st_mtime, status.st_size, Path(each.path)

    def _make_room(self) -> None:
        entries = self.entries()
        total = sum(size for _, size, _ in entries)
        if total <= self.largest:
            return
        for _, size, path in entries:
            if total <= KEPT_SHARE * self.largest:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size

    def clear(self) -> None:
        """Remove every entry."""
        for _, _, path in self.entries():
            with contextlib.suppress(OSError):
                path.unlink()


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))


def default_folder() -> Path:
    """``pounce`` in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pounce"


def _from_environment() -> Store | None:
    value = os.environ.get(VARIABLE)
    if value in ("", "0"):
        return None
    try:
        folder = default_folder() if value in (None, "1") else Path(value).expanduser()
    except RuntimeError:  # no home
        return None
    return Store(folder / "programs")


class _Current:
    """The store of this process. What the environment says counts when it is first asked for."""

    store: Store | None = None
    known = False


def current() -> Store | None:
    """The store that programs are kept in; None: they are not."""
    if not _Current.known:
        choose(_from_environment())
    return _Current.store


def choose(store: Store | None) -> None:
    """Use this store from now on."""
    _Current.store, _Current.known = store, True
