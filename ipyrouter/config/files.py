"""The config's files: where they lie, which of them count, and how they are read without trusting what they are."""

from __future__ import annotations

import functools
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ipyrouter.errors import ConfigError

PROJECT_FILE = "ipyrouter.toml"
_MOST_BYTES = 1 << 20
_MOST_DOTS = 100  # in a line: tomllib's time and memory grow with the square of a dotted key's parts
_REMEDY = "Fix or remove the file."

Owner = Literal["anyone", "user", "root or user"]


class Unusable(Exception):  # noqa: N818  not an error: the reason why a file does not count
    """A file does not count; the message says why."""


class OtherOwner(Unusable):
    """It belongs to another user."""


def home_folder(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the folder that holds config and database, as an absolute path.

    Args:
        folder: The folder, if the caller chooses one; default: IPYROUTER_HOME, which stays the same folder when the
            working folder changes.

    Returns:
        The folder, or None where neither is set.

    Raises:
        ConfigError: It begins with the home folder of a user who does not exist.
    """
    if folder:
        return _absolute(os.fspath(folder))
    variable = os.environ.get("IPYROUTER_HOME")
    return _home_of_process(variable) if variable else None


@functools.cache
def _home_of_process(variable: str) -> Path:
    return _absolute(variable)


def _absolute(path: str) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise ConfigError(f"{path}: there is no such home folder.", "Write the whole path.") from None


def config_file(home: Path | None) -> Path:
    """Return the path of the user's own config file."""
    if home is not None:
        return home / "config.toml"
    import platformdirs

    return platformdirs.user_config_path("ipyrouter") / "config.toml"


def site_files(environ: Mapping[str, str]) -> list[Path]:
    """Return the paths of the config files for all users of this machine, the most important first.

    Args:
        environ: The environment; XDG_CONFIG_DIRS names several folders, as the XDG base directory specification says.
    """
    folders = [Path(folder) for folder in environ.get("XDG_CONFIG_DIRS", "").split(os.pathsep)]
    if named := [folder / "ipyrouter" / "config.toml" for folder in folders if folder.is_absolute()]:
        return named
    import platformdirs

    return [platformdirs.site_config_path("ipyrouter") / "config.toml"]


def data_folder(home: Path | None) -> Path:
    """Return the folder of the database."""
    if home is not None:
        return home
    import platformdirs

    return platformdirs.user_data_path("ipyrouter")


def project_places(start: Path | None = None) -> tuple[list[Path], list[Path]]:
    """Return where a project's file may lie.

    Args:
        start: Where the search begins; default: the working folder.

    Returns:
        The paths that count, nearest first: up to the root of the git repository or to the home folder, or the start
        alone where it is in neither; and those above, which do not count: anyone may write into a shared folder there.
    """
    try:
        start = (start or Path.cwd()).absolute()
    except FileNotFoundError:  # the working folder was deleted
        return [], []
    folders = [start, *start.parents]
    last = next((place for place, folder in enumerate(folders) if _is_root(folder)), 0)
    paths = [folder / PROJECT_FILE for folder in folders]
    return paths[: last + 1], paths[last + 1 :]


def _is_root(folder: Path) -> bool:
    """Tell whether the search ends here: a git repository's root, or the home folder."""
    try:
        return (folder / ".git").exists() or folder.samefile(Path.home())
    except (OSError, RuntimeError):  # no home folder, or one that is not there
        return False


def read(path: Path, owner: Owner = "anyone") -> str | None:
    """Read a config file.

    Args:
        path: The file.
        owner: To whom it must belong, so that it counts.

    Returns:
        Its text, or None where there is no such file.

    Raises:
        Unusable: It is not a regular file of at most 1 MB, or belongs to another user.
        ConfigError: It cannot be read, or is not UTF-8.
    """
    try:
        # Before it is opened, since opening a device or a pipe may already wait, or do something; and once it is open,
        # since another file may lie there by then.
        _check_owner(path.lstat(), owner)
        _check_kind(path.stat())
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _check_owner(status, owner)
            _check_kind(status)
            content = file.read(_MOST_BYTES + 1)
        _check_size(len(content))
        return content.decode("utf-8").replace("\r\n", "\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}.", _REMEDY) from None


def _check_kind(status: os.stat_result) -> None:
    """Raise Unusable for a file that is not regular, or too large."""
    if not stat.S_ISREG(status.st_mode):
        raise Unusable("it is not a regular file")
    _check_size(status.st_size)


def _check_size(size: int) -> None:
    if size > _MOST_BYTES:
        raise Unusable("it is larger than 1 MB")


def _check_owner(status: os.stat_result, owner: Owner) -> None:
    """Raise Unusable for a file of another user; where files have no owners, as on Windows, all are the user's."""
    if owner == "anyone" or not hasattr(os, "geteuid"):
        return
    if status.st_uid != os.geteuid() and not (owner == "root or user" and status.st_uid == 0):
        raise OtherOwner("it belongs to another user")


def parse(text: str, source: str) -> dict[str, Any]:
    """Return the settings of a TOML text.

    Args:
        text: The TOML.
        source: Where it comes from, for the message.

    Raises:
        ConfigError: It is not valid, or nested too deeply.
    """
    if any(line.count(".") > _MOST_DOTS for line in text.split("\n")):
        raise ConfigError(f"{source}: a line holds more than {_MOST_DOTS} dots.", "Divide it into several lines.")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}.", "See https://toml.io for the syntax.") from None
    except RecursionError:
        raise ConfigError(f"{source}: the values are nested too deeply.", _REMEDY) from None
    except ValueError:  # Python reads no more than 4,300 digits; a date may be in no calendar
        raise ConfigError(f"{source}: a number or a date in it is not a valid one.", _REMEDY) from None
