"""Runs: memory limits, ties, dead workers, files that change, interruption, any executor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import ww_static as ww
from conftest import Writer
from support import safetensors_bytes
from ww_static import costs, engine, memory, models
from ww_static.budget import Budget
from ww_static.errors import FormatError
from ww_static.measuring import analysis
from ww_static.options import Options
from ww_static.plan import Settings, plan_model
from ww_static.rows import LayerRow
from ww_static.workers import tasks
from ww_static.workers.executors import InlineExecutor, hired


def matrix(seed: int, n: int = 60, m: int = 40) -> Any:
    return np.random.default_rng(seed).standard_t(3, (n, m)).astype(np.float32)


def some(count: int = 5) -> dict[str, Any]:
    return {f"layer.{i}.weight": matrix(i) for i in range(count)} | {"norm.weight": np.ones(40, np.float32)}


def test_layer_that_cannot_fit_is_a_row_that_says_what_it_needs(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save({"big.weight": matrix(1, 900, 800), "small.weight": matrix(2, 30, 20)})
    small, big = (
        analysis.memory_needed(view) for view in plan_model(models.locate([str(path)])[0], Options(), Settings()).views[::-1]
    )
    monkeypatch.setattr(memory, "private_bytes", lambda: 0)
    result = ww.analyze(path, max_memory=memory.BASE_BYTES + 2 * memory.ROW_BYTES + (small + big) // 2)
    found = {row.name: row for row in result}
    row = found["big.weight"]
    assert (row.status, row.reason) == ("skipped", "memory_limit")
    assert row.message is not None
    assert row.message.startswith(f"needs {big} bytes")
    assert found["small.weight"].status == "success"
    assert result.exit_code == 3
    assert [finding.category for finding in result.finding_rows] == ["budget_exceeded"]


def test_small_budget_costs_ranks_and_never_another_number(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    W = matrix(3, 900, 30).astype(np.float64) @ matrix(4, 30, 300).astype(np.float64)
    path = save({"low_rank.weight": W})
    view = plan_model(models.locate([str(path)])[0], Options(), Settings()).views[0]
    needed, wanted = analysis.memory_needed(view), analysis.memory_wanted(view)
    assert needed < wanted
    monkeypatch.setattr(memory, "private_bytes", lambda: 0)
    (tight,) = ww.analyze(path, max_memory=memory.BASE_BYTES + memory.ROW_BYTES + needed)
    (full,) = ww.analyze(path)
    assert (full.method, full.matrix_rank, full.rank_loss) == ("svd", 30, 270)
    assert (tight.method, tight.matrix_rank) == ("gram", None)
    assert tight.null_reasons["matrix_rank"] == "below_spectral_floor"
    assert (tight.alpha, tight.norm) == (pytest.approx(full.alpha, rel=1e-10), pytest.approx(full.norm, rel=1e-12))


def test_tied_tensors_are_computed_once_and_counted_once(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    W = matrix(5)
    path = save({"embed_tokens.weight": W, "lm_head.weight": W, "other.weight": matrix(6)})
    computed: list[str] = []
    original = analysis.analyze_view

    def counted(*given: Any) -> LayerRow:
        computed.append(given[1].spec.name)
        return original(*given)

    monkeypatch.setattr(analysis, "analyze_view", counted)
    with InlineExecutor() as here:
        result = ww.analyze(path, executor=here)
    first, second, _ = result
    assert sorted(computed) == ["embed_tokens.weight", "other.weight"]
    assert (first.tied_to, second.tied_to) == (None, "embed_tokens.weight")
    assert (second.name, second.kind, second.alpha) == ("lm_head.weight", "head", first.alpha)
    assert result.summary["metrics"]["alpha"]["n"] == 2


def test_jobs_and_executors_give_equal_rows(save: Writer) -> None:
    path = save(some())
    inline = ww.analyze(path, jobs=1)
    with ThreadPoolExecutor(3) as pool:
        assert ww.analyze(path, executor=pool).layers.equals(inline.layers)
    assert ww.analyze(path, jobs=2).layers.equals(inline.layers)


def test_workers_and_memory_change_no_number(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank-deficient matrices, so that the choice between gram and svd shows; the number of workers gives way instead."""
    low = {
        f"low.{i}.weight": matrix(i, 900, 40).astype(np.float64) @ matrix(i + 9, 40, 300).astype(np.float64) for i in range(3)
    }
    path = save(low)
    view = plan_model(models.locate([str(path)])[0], Options(), Settings()).views[0]
    fixed = memory.BASE_BYTES + 3 * memory.ROW_BYTES
    for limit in (
        fixed + analysis.memory_wanted(view),
        fixed + analysis.memory_wanted(view) - 1,
        fixed + 10 * analysis.memory_wanted(view),
    ):
        alone = ww.analyze(path, max_memory=limit)
        assert ww.analyze(path, max_memory=limit, jobs=2).layers.equals(alone.layers)
        monkeypatch.setattr(memory, "private_bytes", lambda: 2**40)
        assert ww.analyze(path, max_memory=limit).layers.equals(alone.layers)
        monkeypatch.undo()


def test_runs_in_several_threads_do_not_disturb_each_other(save: Writer) -> None:
    paths = [save({f"l{n}.{i}.weight": matrix(10 * n + i) for i in range(4)}, f"m{n}.safetensors") for n in range(6)]
    expected = [ww.analyze(path).layers for path in paths]
    before = len(os.listdir("/dev/fd"))

    def inline(path: Path) -> Any:
        with InlineExecutor() as here:
            return ww.analyze(path, executor=here).layers

    with ThreadPoolExecutor(6) as pool:
        for analyze in (inline,) * 7 + (lambda path: ww.analyze(path).layers,):
            found = list(pool.map(analyze, paths))
            assert all(one.equals(other) for one, other in zip(found, expected, strict=True))
    assert len(os.listdir("/dev/fd")) <= before


def test_an_executor_gets_all_the_work_that_memory_allows(save: Writer) -> None:
    together = threading.Barrier(4, timeout=60)

    class Together(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            def task() -> Any:
                if fn is tasks.spectra_of_views:
                    together.wait()  # four at a time, or this breaks
                return fn(*args, **kwargs)

            return super().submit(task)

    with Together(4) as pool:
        assert len(ww.analyze(save({f"l{i}.weight": matrix(i, 400, 300) for i in range(8)}), executor=pool)) == 8


def test_a_spectrum_waits_for_tensors_of_its_own_shape_only(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The survey of one shape ends only when the spectrum of another has begun; twins are found all the same."""
    W = matrix(7)
    path = save({"early.weight": matrix(1, 70, 30), "late.0.weight": W, "late.1.weight": W})
    expected = ww.analyze(path)
    begun = threading.Event()

    class Watching(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            def task() -> Any:
                if fn is tasks.spectra_of_views:
                    begun.set()
                if fn is tasks.survey_tensors and args[1] == ("late.1.weight",):
                    assert begun.wait(60)
                return fn(*args, **kwargs)

            return super().submit(task)

    monkeypatch.setattr(costs, "_SURVEYED", 1)
    with Watching(2) as pool:
        result = ww.analyze(path, executor=pool)
    assert result.rows == expected.rows
    assert [row.tied_to for row in result] == [None, None, "late.0.weight"]


class Counting(InlineExecutor):
    """Runs tasks here, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls[fn.__name__] += 1
        return super().submit(fn, *args, **kwargs)


def test_the_taps_of_a_large_convolution_are_shared_out(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """By parts or as a whole, in one worker or in two: the same rows, of sound, broken and rank-deficient taps."""
    rng = np.random.default_rng(4)
    sound, broken, flat = (rng.standard_t(3, (80, 70, 3, 3)).astype(np.float32) for _ in range(3))
    broken[3, 4, 2, 1] = np.nan
    flat[:, 7] = flat[:, 8]
    path = save(
        {"sound.weight": sound, "broken.weight": broken, "flat.weight": flat, "twin.weight": sound, "dense.weight": matrix(1)}
    )
    expected = ww.analyze(path)
    assert {row.name: row.reason for row in expected}["broken.weight"] == "nonfinite"
    monkeypatch.setattr(costs, "_SMALL", 0.0)
    monkeypatch.setattr(costs, "_LARGE", 0.0)
    monkeypatch.setattr(costs, "_SHARE", costs._PER_ROW / 4)
    for jobs in (1, 2):
        assert ww.analyze(path, jobs=jobs).rows == expected.rows
    with Counting() as counting:
        assert ww.analyze(path, executor=counting).rows == expected.rows
    assert counting.calls["spectra_of_matrices"] >= 3 * 4
    assert [one.tied_to for one in expected if one.name == "twin.weight"] == ["sound.weight"]


def test_the_permuted_copies_of_a_large_row_are_shared_out(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """By workers or with the row: the same rows, of one matrix, of taps, of a zero matrix, of a broken one; also without room."""
    rng = np.random.default_rng(4)
    broken, taps = matrix(3), rng.standard_t(3, (40, 30, 3, 3)).astype(np.float32)
    broken[3, 4] = np.inf
    tensors = {
        "sound.weight": matrix(1),
        "taps.weight": taps,
        "zero.weight": np.zeros((60, 50), np.float32),
        "broken.weight": broken,
    }
    path = save(tensors)
    expected = ww.analyze(path, randomize=True, full_replicas=True)
    none = ww.analyze(path, metrics="default")
    monkeypatch.setattr(costs, "_SMALL", 0.0)
    monkeypatch.setattr(costs, "_LARGE", 0.0)
    monkeypatch.setattr(costs, "_SHARE", 0.0)
    monkeypatch.setattr(costs, "shares", lambda matrices, _: [slice(0, matrices)])
    for jobs in (1, 2):
        assert ww.analyze(path, randomize=True, full_replicas=True, jobs=jobs).rows == expected.rows
    with Counting() as counting:
        assert ww.analyze(path, randomize=True, full_replicas=True, executor=counting).rows == expected.rows
    assert counting.calls["replica_of_view"] == 3 * 5 + 1  # of a broken matrix the first one fails
    monkeypatch.setattr(Budget, "lacking", lambda budget, need: ("randomize",))
    with Counting() as counting:
        rows = ww.analyze(path, randomize=True, executor=counting).rows
    assert counting.calls["replica_of_view"] == 0
    assert [row.alpha for row in rows] == [row.alpha for row in none]
    assert {row.null_reasons["max_rand_eval"] for row in rows if row.status == "success"} == {"memory_limit"}


def test_shares_cover_every_matrix_once() -> None:
    assert costs.shares(9, 0.9) == [slice(0, 9)]
    for matrices in (1, 2, 9, 49, 1000):
        for seconds in (1.1, 3.0, 1000.0):
            parts = costs.shares(matrices, seconds)
            assert [place for part in parts for place in range(matrices)[part]] == list(range(matrices))
            assert len(parts) == min(matrices, int(seconds / costs._SHARE))


def test_a_matrix_that_lapack_gives_up_on_is_a_row(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    original = np.linalg.eigvalsh

    def moody(X: Any, UPLO: str = "L") -> Any:
        if len(X) == 20:
            raise np.linalg.LinAlgError("Eigenvalues did not converge")
        return original(X, UPLO)  # type: ignore[call-overload]

    monkeypatch.setattr(np.linalg, "eigvalsh", moody)
    path = save({"bad.weight": matrix(1, 30, 20), "good.weight": matrix(2, 40, 30)})
    with InlineExecutor() as here:
        result = ww.analyze(path, executor=here)
    found = {row.name: (row.status, row.reason) for row in result}
    assert found == {"bad.weight": ("failed", "not_converged"), "good.weight": ("success", None)}
    assert result.exit_code == 3


def test_a_copy_has_the_codes_of_its_own_name(save: Writer) -> None:
    W = matrix(3)
    result = ww.analyze(save({"a.blob": W, "b.weight": W}))
    codes = {row.name: "ambiguous_orientation" in (row.warning_codes or ()) for row in result}
    assert codes == {"a.blob": True, "b.weight": False}
    assert result.rows[1].tied_to == "a.blob"


def test_rows_are_handed_over_in_order_as_soon_as_they_are_there(save: Writer) -> None:
    seen: list[LayerRow] = []
    with hired(2) as workers:
        run = engine.run(models.locate([str(save(some()))]), Options(), Settings(), workers, on_row=seen.append)
    assert tuple(seen) == run.layers


def test_script_without_a_guard_may_use_workers(save: Writer, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"import ww_static\nprint('once')\nprint(len(ww_static.analyze({str(save(some()))!r}, jobs=2)))\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("once\n6\n", "")


def test_progress_reaches_its_total(save: Writer) -> None:
    seen: list[engine.Progress] = []
    ww.analyze(save(some()), progress=seen.append)
    assert seen[-1].done == pytest.approx(seen[-1].total)
    assert [one.done for one in seen] == sorted(one.done for one in seen)


class Failing(Executor):
    """Runs tasks here, but the spectrum of one layer fails as only a bug of ours can, and with it those of its task."""

    def __init__(self) -> None:
        self.tasks: list[list[str]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        names = [job.view.spec.name for job in args[1]] if fn is tasks.spectra_of_views else []
        self.tasks += [names] if names else []
        if "layer.2.weight" in names:
            future.set_exception(ZeroDivisionError("division by zero"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_a_bug_costs_one_row_and_the_exit_code_says_so(save: Writer) -> None:
    path = save(some())
    clean = {row.name: row for row in ww.analyze(path)}
    failing = Failing()
    result = ww.analyze(path, executor=failing)
    assert failing.tasks == [[f"layer.{i}.weight" for i in range(5)], *([f"layer.{i}.weight"] for i in range(5))]
    for row in result:
        if row.name == "layer.2.weight":
            assert (row.status, row.reason) == ("failed", "internal_error")
            assert row.message == "ZeroDivisionError: division by zero; this is a bug of ww-static"
        else:
            assert row == clean[row.name]
    assert result.exit_code == 4


def test_file_that_changes_between_plan_and_task_is_not_mixed_in(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(some())
    original = tasks.survey_tensors

    def meddling(*given: Any) -> Any:
        os.utime(path, ns=(1, 1))
        return original(*given)

    monkeypatch.setattr(tasks, "survey_tensors", meddling)
    with InlineExecutor() as here:
        result = ww.analyze(path, executor=here)
    assert {row.reason for row in result if row.name.startswith("layer")} == {"changed_while_reading"}
    assert result.exit_code == 3


def test_one_unreadable_model_raises_and_one_of_several_is_a_row(save: Writer, tmp_path: Path) -> None:
    good = save(some())
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(good.read_bytes()[:-3])
    with pytest.raises(FormatError, match=r"bad\.safetensors: truncated: tensor 'norm.weight'") as caught:
        ww.analyze(bad)
    assert caught.value.category == "truncated"
    with pytest.raises(FormatError, match="truncated"):
        ww.describe(bad)
    result = ww.analyze([good, bad])
    (row,) = [row for row in result if row.status == "error"]
    assert (row.category, row.file) == ("truncated", "bad.safetensors")
    assert result.exit_code == 3
    assert len(result) == 7


def test_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="io_error: no such file"):
        ww.analyze(tmp_path / "nothing.safetensors")


def test_nothing_to_analyse_says_so(save: Writer) -> None:
    result = ww.analyze(save({"a.bias": np.ones(9, np.float32)}))
    (finding,) = result.finding_rows
    assert finding.category == "nothing_to_analyse"
    assert finding.message == "1 tensor, none of them a matrix of at least 2 x 2 after squeezing"
    assert result.exit_code == 3
    empty = ww.analyze(save({}, "empty.safetensors"))
    assert [finding.category for finding in empty.finding_rows] == ["no_tensors"]
    assert empty.exit_code == 3


def test_selection_leaves_rows_out_and_counts_them(save: Writer) -> None:
    path = save(some())
    result = ww.analyze(path, layers=["layer.[01].*"])
    assert [row.name for row in result] == ["layer.0.weight", "layer.1.weight"]
    assert result.summary["not_selected"] == 4
    assert len(ww.analyze(path, layers=[r"re:^layer\.[34]"])) == 2
    assert len(ww.analyze(path, kinds="norm")) == 1
    nothing = ww.analyze(path, layers="no-such-*")
    assert nothing.exit_code == 3
    assert nothing.finding_rows[0].message == "none of 6 tensors was selected"


def test_folder_of_several_models_names_each(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_bytes(safetensors_bytes(some(1)))
    result = ww.analyze(tmp_path)
    assert {row.model_id for row in result} == {"a/model", "b/model"}
    assert len(result) == 4


def test_fixture_of_bad_options() -> None:
    for options, words in (
        ({"metrics": "nope"}, "metric group 'nope'"),
        ({"conv": "x"}, "--conv is pooled or slices or flatten"),
        ({"esd_norm": "2/N"}, "--esd-norm"),
        ({"min_evals": 0}, "--min-evals"),
        ({"jobs": 0}, "jobs is a positive number"),
        ({"max_memory": "lots"}, "'lots' is not a size"),
        ({"layers": "re:("}, "not a regular expression"),
        ({"seed": -1}, "--seed"),
        ({"blas_threads": 0}, "--blas-threads is a positive number"),
        ({"readers": ["nope"]}, "reader 'nope' is not installed"),
    ):
        with pytest.raises(ww.UsageError, match=words):
            ww.analyze("x.safetensors", **options)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_interrupted_run_keeps_its_rows_and_leaves_no_worker(tmp_path: Path) -> None:
    """Ctrl-C in the middle: exit 130, the finished rows are written, the rest says interrupted."""
    tensors = {f"a{i:02}.weight": matrix(i, 1600 - 5 * i, 1400) for i in range(24)}  # the largest is first, in name and in turn
    path = tmp_path / "slow.safetensors"
    path.write_bytes(safetensors_bytes(tensors))
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "ww_static", "analyze", str(path), "-j", "2", "-f", "jsonl", "-q"]
    with out.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.PIPE, text=True, start_new_session=True)
        for _ in range(600):
            if '"a00.weight"' in out.read_text():  # a few are done, all cannot be
                break
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    text = out.read_text()
    assert '"record": "summary"' in text
    assert '"interrupted"' in text
    assert _group_is_gone(process.pid)


def _group_is_gone(group: int) -> bool:
    """Whether no process of the group is left within ten seconds: the fork server ends when its parent has."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_python_interruption_is_not_swallowed(save: Writer) -> None:
    def stop(progress: engine.Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ww.analyze(save(some()), progress=stop)


def test_blas_threads_are_recorded_and_never_more_than_processors(save: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "processors", lambda: 2)
    path = save({"a.weight": matrix(1, 400, 300)})
    alone, shared = ww.analyze(path), ww.analyze(path, jobs="auto", blas_threads=2)
    assert (alone.parameters["blas_threads"], shared.parameters["blas_threads"]) == (1, 2)
    assert alone.rows[0].params_id != shared.rows[0].params_id
    assert shared.rows[0].alpha == pytest.approx(alone.rows[0].alpha, rel=1e-9)
    with pytest.raises(ww.UsageError, match="2 jobs with 2 BLAS threads each would be more than the 2 processors"):
        ww.analyze(path, jobs=2, blas_threads=2)
    with pytest.raises(ww.UsageError, match="a job with 3 BLAS threads each would be"):
        ww.analyze(path, blas_threads=3)


def test_blas_gets_its_threads_back(save: Writer) -> None:
    script = textwrap.dedent(f"""
        import numpy, threadpoolctl, ww_static
        count = lambda: [one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]
        before = count()
        ww_static.analyze({str(save(some()))!r})
        assert before == count(), (before, count())
    """)
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.skipif(memory.processors() < 2, reason="needs two processors")
def test_blas_has_as_many_threads_as_were_asked_for_while_a_spectrum_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = analysis.analyze_view

    def looked_at(*arguments: Any, **more: Any) -> Any:
        seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return original(*arguments, **more)

    monkeypatch.setattr(analysis, "analyze_view", looked_at)
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes({"a.weight": matrix(1, 30, 20)}))
    for threads in (2, 1):
        seen.clear()
        with ww.InlineExecutor() as here:
            ww.analyze(path, executor=here, blas_threads=threads)
        assert set(seen) == {threads}
