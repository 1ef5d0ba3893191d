"""A child process whose output goes to a file, that can be signalled, and whose descendants can be counted."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .waiting import until


class Process:
    """A running program. Everything it prints lands in `log`."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = Path(command[0]).name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=None if env is None else dict(env),
                # A Ctrl-C at the terminal is for pytest; a story sends its own signals.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def output(self) -> str:
        """What the program has printed so far."""
        return self.log.read_text(errors="replace")

    def is_running(self) -> bool:
        return self._popen.poll() is None

    def wait_for_line(self, pattern: str, seconds: float = 30.0) -> re.Match[str]:
        """Waits until a line of the output matches."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.output(), re.MULTILINE)
            if match is None and not self.is_running():
                raise RuntimeError(f"{self.name} ended with {self._popen.returncode}:\n{self.output()[-4000:]}")
            return match

        return until(found, f"{self.name} to print /{pattern}/", seconds)

    def wait_for_exit(self, seconds: float = 15.0) -> int:
        """The exit code, once the program has ended."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds:g} s:\n{self.output()[-2000:]}") from None

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """What `kill -9` does; the program's children are left alone."""
        self.send(signal.SIGKILL)
        self.wait_for_exit()

    def stop(self) -> None:
        """Ends the program and whatever it left behind."""
        family = descendants(self.pid)
        if self.is_running():
            self.send(signal.SIGTERM)
            try:
                self._popen.wait(10)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait(5)
        for pid in family:
            end_by_force(pid)


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue  # it ended while we looked
        # The command, in parentheses, may hold spaces; the state and the parent follow it.
        parent = int(stat.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    queue = [pid]
    while queue:
        for child in children.get(queue.pop(), []):
            found.append(child)
            queue.append(child)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet collected does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def command_line(pid: int) -> str:
    """The command that a process was started with; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def end_by_force(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
