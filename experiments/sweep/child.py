"""A member as submitit runs it: the command as a child, so that it alone says how signals end it.

submitit takes SIGTERM for itself and says nothing more, and unpickles what it runs before anything else is there; so
this file imports neither jax nor anything of ours.
"""

import contextlib
import os
import signal
import subprocess
from pathlib import Path


class Member:
    """What submitit pickles."""

    def __init__(self, command: list[str], workdir: str):
        self.command, self.workdir = command, Path(workdir)
        self.child: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Runs the member; its exit code, which is written down beside its log."""
        ended = self.workdir / "exit.txt"
        ended.unlink(missing_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        with (self.workdir / "log.txt").open("ab") as log:
            self.child = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, process_group=0
            )
        code = self.child.wait()
        code = code if code >= 0 else 128 - code
        partial = ended.with_name(".exit.txt.partial")
        partial.write_text(f"{code}\n")
        partial.replace(ended)
        return code

    def stop(self) -> None:
        """Lets the child save its state and end."""
        if self.child:
            self.child.terminate()

    def checkpoint(self):
        """What submitit calls before a job's time ends or it is preempted: the child saves, and is queued again."""
        import submitit

        self.stop()
        if self.child:
            with contextlib.suppress(ChildProcessError):  # it has ended and was waited for
                # not Popen.wait, which this interrupts, and whose lock it would wait for
                os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(Member(self.command, str(self.workdir)))
