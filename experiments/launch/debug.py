"""Jobs one after the other in this process, for a debugger and for tests."""

import signal

import submitit

from experiments.launch.base import WARNINGS, Job, Launcher


class Debug(Launcher):
    pause = 0.0
    in_process = True

    def step(self) -> bool:
        if self.waiting:
            self.run(self.waiting.pop(0))
        return bool(self.waiting)

    def run(self, job: Job) -> None:
        executor = submitit.DebugExecutor(folder=self.logs)
        before = {signum: signal.getsignal(signum) for signum in WARNINGS}
        executor.submit(job).exception()  # status.json says how it ended; .result() would debug
        for signum, handler in before.items():
            signal.signal(signum, handler)
