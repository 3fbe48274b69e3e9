"""System calls of a process, from strace: files that it writes, addresses that it reaches, programs that it runs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mqtt_rig import eventually

_OPEN = ("open", "openat", "openat2", "creat")
_CHANGE = (
    "mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink",
    "unlinkat", "truncate", "mknod", "mknodat",
)  # fmt: skip
_REACH = ("connect", "bind", "sendto", "sendmsg", "sendmmsg")
_OTHERS = ("execve", "execveat", "memfd_create", "io_uring_setup")
_WRITES = re.compile(r"\bO_(WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)\b")
_PATH = re.compile(r'(?:\w+<(?P<base>[^>]*)>, )?"(?P<path>(?:[^"\\]|\\.)*)"')
_SOCKET_FILE = re.compile(r"sa_family=AF_UNIX, sun_path=(@?)\"([^\"]*)\"")
_SOCKET = re.compile(r"sa_family=AF_INET6?, sin6?_port=htons\((\d+)\),.*?\"([^\"]+)\"")
_FAMILY = re.compile(r"sa_family=(\w+)")


class Trace:
    """System calls of a process and its threads that could store or send data.

    Args:
        directory: for strace's files, one a thread.

    Attributes:
        command: to be put before a command. The process stays the child of whoever starts it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        names = ",".join(f"?{name}" for name in (*_OPEN, *_CHANGE, *_REACH, *_OTHERS))  # ?: where there is such a call
        self.command = (
            "strace", "-D", "-ff", "-y", "--seccomp-bpf", "-e", "signal=none", "-e", f"trace={names}",
            "-o", str(directory / "thread"),
        )  # fmt: skip

    def await_end(self) -> None:
        """Waits until strace has written the last of a process that has ended."""
        eventually(lambda: all(text.rstrip().endswith("+++") for text in self._texts()), "strace ends")

    @property
    def written(self) -> set[str]:
        """Paths that were opened for writing, made, renamed or deleted, or would have been."""
        changes = [arguments for name in _CHANGE for arguments in self._calls(name)]
        opened = [arguments for name in _OPEN for arguments in self._calls(name)]
        changes += [arguments for arguments in opened if _WRITES.search(arguments)]
        changes += self._calls("creat")
        return {
            os.path.normpath(os.path.join(match["base"] or "", match["path"]))
            for arguments in changes
            for match in _PATH.finditer(arguments)
        }

    @property
    def reached(self) -> set[str]:
        """Addresses that were connected or sent to, or would have been: HOST:PORT, a path, or a family of sockets."""
        return {
            _address(arguments)
            for name in _REACH
            if name != "bind"
            for arguments in self._calls(name)
            if "sa_family" in arguments
        }

    @property
    def bound(self) -> set[str]:
        """Addresses that were taken, likewise."""
        return {_address(arguments) for arguments in self._calls("bind")}

    @property
    def others(self) -> set[str]:
        """Programs that were run, files in memory, and ways around this trace."""
        return {f"{name}({arguments}" for name in _OTHERS for arguments in self._calls(name)}

    def _calls(self, wanted: str) -> list[str]:
        """Returns the arguments of every call of a name."""
        found = []
        for text in self._texts():
            for line in text.splitlines():
                name, _, rest = line.partition("(")
                if name == wanted:
                    found.append(re.split(r"\)\s+= ", rest)[0])
        return found

    def _texts(self) -> list[str]:
        return [path.read_text(errors="replace") for path in sorted(self._directory.iterdir())]


def _address(arguments: str) -> str:
    if found := _SOCKET_FILE.search(arguments):
        return found[1] + found[2]
    if found := _SOCKET.search(arguments):
        return f"{found[2]}:{found[1]}"
    found = _FAMILY.search(arguments)
    return found[1] if found else arguments
