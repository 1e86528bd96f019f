"""Runs the jobs of a suite: what fails costs one job, and other processes' jobs are theirs."""

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
    """The newest records of every run of a benchmark, kept in the store as they come.

    since: how many records of the store do not count (`force`).
    """

    def __init__(self, store: Store, since: int) -> None:
        self.store, self.since = store, since
        self._lock = Lock()
        self._empty: set[Work] = set()  # ended without a record
        self._by_work: dict[Work, list[Result]] = {}
        self.refresh()

    @property
    def done(self) -> Collection[Work]:
        """What has been run, by whatever process."""
        with self._lock:
            return {*self._by_work, *self._empty}

    def refresh(self) -> None:
        """Takes note of what other processes have recorded."""
        with self._lock:
            self._by_work = {}
            for result in latest(self.store.load()[self.since :]):
                self._by_work.setdefault(Work.of(result), []).append(result)

    def add(self, job: Job, results: Sequence[Result]) -> None:
        """Stores what a job found, less the floors that another model's job has recorded."""

        def missing(there: list[Result]) -> list[Result]:
            known = set(map(Identity.of, there[self.since :]))
            return [r for r in results if Identity.of(r) not in known]

        self.store.extend(missing)
        self._empty.add(job.work)
        self.refresh()

    def of(self, jobs: Iterable[Job]) -> list[Result]:
        """The records of `jobs`, then those of the stand-ins for models under their protocols."""
        works = {job.work: None for job in jobs}
        runs = {work._replace(sha256="") for work in works}
        self.refresh()
        for work, results in self._by_work.items():
            if not results[0].model.source and work._replace(sha256="") in runs:
                works.setdefault(work)
        return [result for work in works for result in self._by_work.get(work, [])]


class Shift:
    """This process's share of a suite's jobs.

    force: the run directory of a job is emptied before it.
    """

    def __init__(
        self, records: Records, claims: Claims, watcher: Watcher, cancelled: Event, force: bool
    ) -> None:
        self.records, self.claims, self.watcher = records, claims, watcher
        self.cancelled, self.force = cancelled, force
        self.failures: list[str] = []
        self._numbers: dict[Work, int] = {}

    def run(self, jobs: Sequence[Job], at_once: int) -> None:
        """Runs `jobs`: first those of this process, model by model, then those that work apart.

        Models that another process works on are left to it in the first round; what is still
        claimed after it is waited for, and run where its process has ended without records.
        """
        here = [job for job in jobs if not job.benchmark.apart]
        waiting = [*here, *(job for job in jobs if job.benchmark.apart)]
        self._numbers = {job.work: number for number, job in enumerate(waiting, start=1)}
        left = self._round(waiting, at_once, avoid=True)
        told = False
        while left:
            waiting, left = left, self._round(left, at_once, avoid=False)
            if len(left) == len(waiting):
                if not told:
                    self.watcher.say(self._awaited(left))
                told = True
                time.sleep(POLL_SECONDS)

    def _round(self, jobs: Sequence[Job], at_once: int, avoid: bool) -> list[Job]:
        """Runs what nobody else works on; the others are left."""
        here = [job for job in jobs if not job.benchmark.apart]
        left = []
        for _, members in groupby(here, key=lambda job: id(job.context.model)):
            group = list(members)
            if avoid and any(self.claims.holder(_key(job)) for job in group):
                left += group
                continue
            left += [job for job in group if not self.attempt(job)]
            group[0].context.forget()
        torch.cuda.empty_cache()  # of more use to other processes
        apart = [job for job in jobs if job.benchmark.apart]
        return [*left, *self._run_apart(apart, at_once)]

    def attempt(self, job: Job) -> bool:
        """Runs a job that has no records yet; False where another process works on it."""
        if self.claims.take(_key(job), job.name):
            return False
        try:
            self.records.refresh()
            if job.work in self.records.done:
                known = self.records.of([job])
                self.watcher.ends(job.name, f"{job.summary(known)} (by another process)")
                return True
            self.watcher.starts(job.name, self._numbers[job.work], len(self._numbers))
            if self.force:
                shutil.rmtree(job.context.work_dir, ignore_errors=True)
            found, failure = self._outcome(job)
            if failure:
                self.failures.append(f"{job.name}: {failure}")
            else:
                self.records.add(job, found)
            self.watcher.ends(job.name, f"failed: {failure}" if failure else job.summary(found))
        finally:
            self.claims.release(_key(job))
        return True

    def _outcome(self, job: Job) -> tuple[list[Result], str]:
        """The job's records, each with the seconds of the whole job; or what went wrong."""
        start = time.perf_counter()
        try:
            found = job.run()
        except Exception as error:  # one defect must not cost the others their records
            if self.cancelled.is_set():
                raise
            if isinstance(error, UserError | RunError):
                return [], sentence(error)
            return [], f"{unexpected(error)} (see {_keep_traceback(job)})"
        seconds = round(time.perf_counter() - start, 2)
        return [replace(result, seconds=seconds) for result in found], ""

    def _run_apart(self, jobs: Sequence[Job], at_once: int) -> list[Job]:
        """Runs `jobs` in threads; whatever ends the suite ends the jobs that run, Ctrl-C too."""

        def attempt_if_wanted(job: Job) -> bool:
            if self.cancelled.is_set():
                raise RunError(f"{job.name} was not begun.")
            try:
                return self.attempt(job)
            except BaseException as error:
                causes.append(error)
                self.cancelled.set()  # at once: this thread would take the next job
                raise

        causes: list[BaseException] = []  # the first one counts: jobs that are ended raise too
        with ThreadPoolExecutor(at_once) as pool:
            try:
                futures = {pool.submit(attempt_if_wanted, job): job for job in jobs}
                left = [futures[f] for f in as_completed(list(futures)) if not f.result()]
            except BaseException as error:
                causes.append(error)
                self.cancelled.set()
                pool.shutdown(cancel_futures=True)
                raise causes[0] from None
        return [job for job in jobs if job in left]

    def _awaited(self, jobs: Sequence[Job]) -> str:
        by = {str(h) for job in jobs if (h := self.claims.holder(_key(job)))}
        return f"waiting for {', '.join(job.name for job in jobs)} ({', '.join(sorted(by))})"


def _key(job: Job) -> str:
    """What a job is claimed by."""
    return digest(job.work)


def _keep_traceback(job: Job) -> Path:
    """Where the traceback of the present error is kept, in the folder of its job."""
    path = job.context.work_dir / TRACEBACK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc())
    except OSError as error:
        log.warning("the traceback cannot be kept in %s (%s):", path, error, exc_info=True)
    return path
