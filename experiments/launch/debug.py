"""Jobs one after the other in this process, for a debugger and for tests."""

import signal
import time

import submitit

from experiments.launch.base import WARNINGS, Job, Launcher


class Debug(Launcher):
    pause = 0.0
    in_process = True

    def step(self) -> bool:
        ready = self.take_ready(1)
        for job in ready:
            self.run(job)
        if self.waiting and not ready:
            time.sleep(super().pause)  # for a run that is at work elsewhere
        return bool(self.waiting)

    def run(self, job: Job) -> None:
        executor = submitit.DebugExecutor(folder=self.logs)
        before = {signum: signal.getsignal(signum) for signum in WARNINGS}
        executor.submit(job).exception()  # status.json says how it ended; .result() would debug
        for signum, handler in before.items():
            signal.signal(signum, handler)
