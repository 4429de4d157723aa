"""Calibration curves of the estimators of alpha: samples of known laws, fitted as eigenvalues would be."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ww_static import api, engine, memory, seeding
from ww_static.errors import UsageError
from ww_static.listing import Cell, Listing, numbers
from ww_static.workers import executors
from ww_static.workers.dispatch import Crew, Task, drain
from ww_static.workers.executors import WorkerExecutor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALPHAS = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0)
SAMPLERS = {"pareto": "Pareto I: xmin (1 - U)^(-1/mu)", "lomax": "Lomax: that of xmin 1, less 1"}
ESTIMATORS = ("alpha", "alpha_robust", "alpha_hill")
MOST_VALUES, MOST_RUNS = 10**6, 10**6
_COLUMNS = ("sampler", "alpha", "estimator", "mean", "sd", "bias", "sd_expected", "fitted")
_TOGETHER = 2e5  # values of the samples of one task
_MOST_TASKS = 500  # of a curve
_BYTES = 400  # of private memory that a value takes while it is fitted
_TASK_BYTES = 2**24
_SECONDS, _SECONDS_PER_VALUE = 2e-3, 2e-6  # of a sample and its three fits
_PATIENCE = 30.0

Fits = tuple[float | None, ...]  # of one sample, in the order of ESTIMATORS


@dataclass(frozen=True, slots=True)
class Curve:
    """Samples of one law.

    Attributes:
        sampler: ``pareto`` or ``lomax``.
        alpha: exponent of the density, mu + 1.
        n: values of a sample.
        seed: of the run; sample r depends on it, the sampler, alpha, n and r alone.
    """

    sampler: str
    alpha: float
    n: int
    seed: int

    def sample(self, run: int) -> NDArray[np.float64]:
        """Sample number `run`, float64, shape (n,)."""
        import numpy as np

        generator = seeding.generator(["calibrate", self.seed, self.sampler, self.alpha, self.n], run)
        logs = np.minimum(generator.standard_exponential(self.n) / (self.alpha - 1), 600.0)
        return np.exp(logs) if self.sampler == "pareto" else np.maximum(np.expm1(logs), 1e-290)

    def fits(self, runs: range) -> list[Fits]:
        """What each estimator gives for some samples (a task); None where it gives nothing."""
        import numpy as np

        from ww_static.spectral.hill import hill
        from ww_static.spectral.powerlaw import TailFit, tail
        from ww_static.spectral.variants import robust_fit

        found = []
        for run in runs:
            x = np.sort(self.sample(run))
            fits = (tail(x), robust_fit(x))
            half = hill(x, 0.0)
            exponents = [fit.alpha if isinstance(fit, TailFit) else None for fit in fits]
            found.append((*exponents, half if isinstance(half, float) else None))
        return found


def calibrate(
    *,
    sampler: str | Sequence[str] = tuple(SAMPLERS),
    alpha: str | Sequence[float] = ALPHAS,
    n: int = 1000,
    runs: int = 30,
    seed: int = 0,
    jobs: int | str = 1,
    executor: Executor | None = None,
    progress: Callable[[engine.Progress], None] | None = None,
) -> Listing:
    """Mean, spread and bias of the estimators of alpha, over samples of known laws.

    Args:
        sampler: ``pareto`` (a power law from its smallest value on) and ``lomax`` (one in its far tail only; numpy's ``pareto``).
        alpha: true exponents of the density, above 1.
        n: values of a sample.
        runs: samples of each law.
        seed: of everything random.
        jobs: most worker processes, or ``auto``.
        executor: any `concurrent.futures.Executor` to run the tasks on, in place of `jobs`.
        progress: called with a `Progress` whenever something has finished.

    Returns:
        A row per law and estimator: mean, standard deviation (ddof 1) and bias over the samples that were fitted, and
        ``sd_expected`` = (alpha - 1)/sqrt(values used), of `alpha` and `alpha_robust` with all n.

    Raises:
        UsageError: an argument means nothing.
        WorkerDiedError: a worker did.

    Source: Clauset, Shalizi, Newman 2009, section 3.2.
    """
    curves = _curves(sampler, alpha, n, seed)
    if type(runs) is not int or not 2 <= runs <= MOST_RUNS:
        raise UsageError(f"--runs is a number from 2 to {MOST_RUNS}, not {runs!r}")
    slots = memory.processors() if jobs == "auto" else api.job_count(jobs)
    found: dict[Curve, dict[int, list[Fits]]] = {curve: {} for curve in curves}
    tasks = [task for curve in curves for task in _tasks(curve, runs, found[curve])]
    done, total = 0.0, sum(task.cost for task in tasks)

    def advance(task: Task[Any]) -> None:
        nonlocal done
        done += task.cost
        if progress is not None:
            progress(engine.Progress(done, total, task.label))

    with executors.hired(slots, executor) as crew:
        limit = slots if isinstance(crew, WorkerExecutor) else None
        drain(Crew(crew, limit, memory.available_bytes(), _PATIENCE), tasks, advance)
    facts: dict[str, Cell] = {"n": n, "runs": runs, "seed": seed}
    facts |= {name: SAMPLERS[name] for name in dict.fromkeys(one.sampler for one in curves)}
    return Listing(tuple(facts.items()), _COLUMNS, tuple(row for curve in curves for row in _rows(curve, found[curve])))


def _curves(sampler: str | Sequence[str], alpha: str | Sequence[float], n: int, seed: int) -> list[Curve]:
    names = tuple(sampler.split(",")) if isinstance(sampler, str) else tuple(sampler)
    for name in names:
        if name not in SAMPLERS:
            raise UsageError(f"sampler '{name}' is not known; known are: {', '.join(SAMPLERS)}")
    alphas = numbers(alpha, "alpha")
    for one in alphas:
        if not 1 < one <= 1000:
            raise UsageError(f"--alpha is an exponent above 1, at most 1000, not {one:g}")
    if type(n) is not int or not 8 <= n <= MOST_VALUES:
        raise UsageError(f"--n is a number from 8 to {MOST_VALUES}, not {n!r}")
    if type(seed) is not int or seed < 0:
        raise UsageError(f"--seed is a number from 0, not {seed!r}")
    return [Curve(name, one, n, seed) for name in dict.fromkeys(names) for one in dict.fromkeys(alphas)]


def _tasks(curve: Curve, runs: int, found: dict[int, list[Fits]]) -> Iterator[Task[list[Fits]]]:
    """The samples of a curve in tasks of about equal size, which put their fits where they belong."""

    def done(fits: list[Fits] | BaseException, first: int) -> Sequence[Task[Any]]:
        if isinstance(fits, BaseException):
            raise fits
        found[first] = fits
        return ()

    step = max(1, int(_TOGETHER / curve.n), runs // _MOST_TASKS)
    nbytes = _TASK_BYTES + _BYTES * curve.n
    for first in range(0, runs, step):
        some = range(first, min(first + step, runs))
        cost = len(some) * (_SECONDS + _SECONDS_PER_VALUE * curve.n)
        label = f"{curve.sampler} {curve.alpha:g}"
        yield Task(Curve.fits, (curve, some), 0, cost, nbytes, 2**28 + 4 * nbytes, label, partial(done, first=first))


def _rows(curve: Curve, found: dict[int, list[Fits]]) -> Iterator[tuple[Cell, ...]]:
    fits = [one for _, some in sorted(found.items()) for one in some]
    for place, estimator in enumerate(ESTIMATORS):
        values = [value for one in fits if (value := one[place]) is not None]
        mean = statistics.fmean(values) if values else None
        sd = statistics.stdev(values) if len(values) > 1 else None
        used = curve.n - curve.n // 2 if estimator == "alpha_hill" else curve.n
        bias = None if mean is None else mean - curve.alpha
        yield curve.sampler, curve.alpha, estimator, mean, sd, bias, (curve.alpha - 1) / used**0.5, len(values)
