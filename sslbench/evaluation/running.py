"""Runs the jobs of a suite; a failure costs one job, and several processes share the jobs."""

from __future__ import annotations

import logging
import shutil
import time
import traceback
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from threading import Event, Lock

import torch

from sslbench.errors import RunError, UserError
from sslbench.evaluation.claims import Claims
from sslbench.evaluation.jobs import Job, Work, sentence, unexpected
from sslbench.evaluation.watcher import Watcher
from sslbench.reporting.store import Identity, Store, latest
from sslbench.result import Result, digest

POLL_SECONDS = 1.0
TRACEBACK = "traceback.log"
log = logging.getLogger(__name__)


class Records:
    """The newest records of every run of a benchmark, stored as soon as they exist.

    since: number of old records in the store to ignore (`force`).
    """

    def __init__(self, store: Store, since: int) -> None:
        self.store, self.since = store, since
        self._lock = Lock()
        self._empty: set[Work] = set()  # jobs that ended without a record
        self._by_work: dict[Work, list[Result]] = {}
        self.refresh()

    @property
    def done(self) -> Collection[Work]:
        """The work that any process has finished."""
        with self._lock:
            return {*self._by_work, *self._empty}

    def refresh(self) -> None:
        """Read what other processes have recorded."""
        with self._lock:
            self._by_work = {}
            for result in latest(self.store.load()[self.since :]):
                self._by_work.setdefault(Work.of(result), []).append(result)

    def add(self, job: Job, results: Sequence[Result]) -> None:
        """Store the results of a job, except floors that another model's job has recorded."""

        def missing(stored: list[Result]) -> list[Result]:
            known = set(map(Identity.of, stored[self.since :]))
            return [r for r in results if Identity.of(r) not in known]

        self.store.extend(missing)
        self._empty.add(job.work)
        self.refresh()

    def of(self, jobs: Iterable[Job]) -> list[Result]:
        """Return the records of `jobs`, then those of floors without a model in their protocols."""
        works = {job.work: None for job in jobs}
        runs = {work._replace(sha256="") for work in works}
        self.refresh()
        for work, results in self._by_work.items():
            if not results[0].model.source and work._replace(sha256="") in runs:
                works.setdefault(work)
        return [result for work in works for result in self._by_work.get(work, [])]


class Shift:
    """Runs this process's share of a suite's jobs.

    force: empties the run directory of a job before it.
    """

    def __init__(
        self, records: Records, claims: Claims, watcher: Watcher, cancelled: Event, force: bool
    ) -> None:
        self.records, self.claims, self.watcher = records, claims, watcher
        self.cancelled, self.force = cancelled, force
        self.failures: list[str] = []
        self._numbers: dict[Work, int] = {}

    def run(self, jobs: Sequence[Job], at_once: int) -> None:
        """Run `jobs`: first those in this process, model by model, then those that work `apart`.

        In the first round, models that another process works on are left to it. Then jobs that are
        still claimed are waited for, and run here if their process ended without records.
        """
        local = [job for job in jobs if not job.benchmark.apart]
        waiting = [*local, *(job for job in jobs if job.benchmark.apart)]
        self._numbers = {job.work: number for number, job in enumerate(waiting, start=1)}
        left = self._round(waiting, at_once, avoid=True)
        announced = False
        while left:
            waiting, left = left, self._round(left, at_once, avoid=False)
            if len(left) == len(waiting):
                if not announced:
                    self.watcher.say(self._waiting_message(left))
                announced = True
                time.sleep(POLL_SECONDS)

    def _round(self, jobs: Sequence[Job], at_once: int, avoid: bool) -> list[Job]:
        """Run the jobs that no other process works on; return the others.

        avoid: also leaves models of which another process has claimed a job.
        """
        local = [job for job in jobs if not job.benchmark.apart]
        left = []
        for _, members in groupby(local, key=lambda job: id(job.context.model)):
            group = list(members)
            if avoid and any(self.claims.holder(_key(job)) for job in group):
                left += group
                continue
            left += [job for job in group if not self.attempt(job)]
            group[0].context.forget()
        torch.cuda.empty_cache()  # frees GPU memory for the processes of jobs that work apart
        apart = [job for job in jobs if job.benchmark.apart]
        return [*left, *self._run_apart(apart, at_once)]

    def attempt(self, job: Job) -> bool:
        """Run a job unless it has records; return False if another process works on it."""
        if self.claims.take(_key(job), job.name):
            return False
        try:
            self.records.refresh()
            if job.work in self.records.done:
                results = self.records.of([job])
                self.watcher.ends(job.name, f"{job.summary(results)} (by another process)")
                return True
            self.watcher.starts(job.name, self._numbers[job.work], len(self._numbers))
            if self.force:
                shutil.rmtree(job.context.work_dir, ignore_errors=True)
            results, failure = self._outcome(job)
            if failure:
                self.failures.append(f"{job.name}: {failure}")
            else:
                self.records.add(job, results)
            self.watcher.ends(job.name, f"failed: {failure}" if failure else job.summary(results))
        finally:
            self.claims.release(_key(job))
        return True

    def _outcome(self, job: Job) -> tuple[list[Result], str]:
        """Run a job; return its records, with the seconds of the whole job, or an error message."""
        start = time.perf_counter()
        try:
            results = job.run()
        except Exception as error:  # one failed job must not end the others
            if self.cancelled.is_set():
                raise
            if isinstance(error, UserError | RunError):
                return [], sentence(error)
            return [], f"{unexpected(error)} (see {_keep_traceback(job)})"
        seconds = round(time.perf_counter() - start, 2)
        (job.context.work_dir / TRACEBACK).unlink(missing_ok=True)  # of an attempt before
        return [replace(result, seconds=seconds) for result in results], ""

    def _run_apart(self, jobs: Sequence[Job], at_once: int) -> list[Job]:
        """Run `jobs` in threads; any exception, also Ctrl-C, cancels the running jobs."""

        def attempt_unless_cancelled(job: Job) -> bool:
            if self.cancelled.is_set():
                raise RunError(f"{job.name} was not started.")
            try:
                return self.attempt(job)
            except BaseException as error:
                causes.append(error)
                self.cancelled.set()  # here, because this thread would start the next job
                raise

        causes: list[BaseException] = []  # the first one is raised; cancelled jobs add more
        with ThreadPoolExecutor(at_once) as pool:
            try:
                futures = {pool.submit(attempt_unless_cancelled, job): job for job in jobs}
                left = [futures[f] for f in as_completed(list(futures)) if not f.result()]
            except BaseException as error:
                causes.append(error)
                self.cancelled.set()
                pool.shutdown(cancel_futures=True)
                raise causes[0] from None
        return [job for job in jobs if job in left]

    def _waiting_message(self, jobs: Sequence[Job]) -> str:
        holders = {str(h) for job in jobs if (h := self.claims.holder(_key(job)))}
        return f"waiting for {', '.join(job.name for job in jobs)} ({', '.join(sorted(holders))})"


def _key(job: Job) -> str:
    """Return the key under which a job is claimed."""
    return digest(job.work)


def _keep_traceback(job: Job) -> Path:
    """Write the traceback of the current error to the folder of its job; return its path."""
    path = job.context.work_dir / TRACEBACK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc())
    except OSError as error:
        log.warning("the traceback cannot be written to %s (%s):", path, error, exc_info=True)
    return path
