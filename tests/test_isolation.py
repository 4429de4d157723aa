"""Isolation: whatever a file does to the process that reads it costs its own rows, and nothing else."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ww_static as ww
from support import ROOT, safetensors_bytes
from ww_static.errors import WorkerDiedError
from ww_static.results import Result
from ww_static.workers.confinement import Allowance, blas_threads
from ww_static.workers.executors import InlineExecutor, WorkerExecutor

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limits of Linux")

# What each deed costs: the category, and what the message says.
DEEDS = {
    "segv": ("reader_crash", "worker died by SIGSEGV"),
    "abort": ("reader_crash", "worker died by SIGABRT"),
    "kill": ("reader_crash", "worker died by SIGKILL"),
    "loop": ("reader_crash", r"worker was ended after [\d.]+ s; --timeout allows more"),
    "stuck": ("reader_crash", r"worker was ended after [\d.]+ s; --timeout allows more"),
    "sleep": ("reader_crash", r"worker was ended after [\d.]+ s; --timeout allows more"),
    "leave": ("reader_crash", r"worker was ended after [\d.]+ s; --timeout allows more"),
    "exit": ("reader_crash", "worker was left by SystemExit"),
    "hog": ("limit|memory_limit", r"does not fit into \d+ bytes|ran out of memory"),
    "creep": ("limit|memory_limit", r"does not fit into \d+ bytes|ran out of memory"),
    "write": ("reader_crash", "File too large"),
    "cut": ("changed_while_reading|reader_crash", "worker died by SIGBUS"),
}

ENDLESS = ("loop", "stuck", "sleep", "leave")  # only these get little time


@pytest.fixture(autouse=True)
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installs the evil reader for this process and its workers; gives the folder of the test's models."""
    site = tmp_path / "site"
    info = site / "evil-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "evil_reader.py", site / "evil_reader.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ww_static.readers]\nevil = evil_reader\n")
    monkeypatch.syspath_prepend(os.fspath(site))
    monkeypatch.setenv("PYTHONPATH", os.fspath(site))
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def workers() -> Iterator[WorkerExecutor]:
    pool = WorkerExecutor(2)
    yield pool
    pool.shutdown(cancel_futures=True)


def deed(folder: Path, when: str, name: str) -> Path:
    path = folder / f"{name}.evil"
    path.write_text(f"EVIL {when} {name}\n" + "x" * 8192)
    return path


def honest(folder: Path) -> list[Path]:
    """Two good models, one before and one after every evil one in the order of names."""
    paths = [folder / "a.safetensors", folder / "z.safetensors"]
    for seed, path in enumerate(paths):
        rng = np.random.default_rng(seed)
        path.write_bytes(safetensors_bytes({f"layer.{i}.weight": rng.standard_t(3, (60, 40)) for i in range(3)}))
    return paths


def patience(name: str) -> float:
    return 3.0 if name in ENDLESS else 60.0


def rows_of(result: Result, model: str) -> list[Any]:
    return [row for row in result.rows if row.model_id == model]


@pytest.mark.parametrize("name", DEEDS)
def test_a_file_that_ends_its_worker_when_opened_is_one_row(evil: Path, workers: WorkerExecutor, name: str) -> None:
    good = honest(evil)
    clean = ww.analyze(good, executor=workers)
    result = ww.analyze([good[0], deed(evil, "open", name), good[1]], executor=workers, timeout=patience(name))
    (row,) = rows_of(result, name)
    category, words = DEEDS[name]
    assert row.status == "error"
    assert re.fullmatch(category, row.category)
    assert re.search(words, row.message)
    assert [row for row in result.rows if row.model_id != name] == list(clean.rows)
    assert result.exit_code == 3
    assert not (evil / "WRITTEN").exists() or (evil / "WRITTEN").stat().st_size == 0


@pytest.mark.parametrize("name", DEEDS)
def test_a_tensor_that_ends_its_worker_when_read_is_one_row(evil: Path, workers: WorkerExecutor, name: str) -> None:
    good = honest(evil)
    clean = ww.analyze([*good, deed(evil, "read", "nothing")], executor=workers)
    result = ww.analyze([good[0], deed(evil, "read", name), good[1]], executor=workers, timeout=patience(name))
    sound, broken = sorted(rows_of(result, name), key=lambda row: row.name == "bad.weight")
    category, words = DEEDS[name]
    assert broken.status == "failed"
    assert re.fullmatch(category, broken.reason)
    assert re.search(words, broken.message)
    for model in ("a", "z"):
        assert rows_of(result, model) == rows_of(clean, model)
    if name != "cut":  # then nothing of the file can be trusted any more
        (expected,) = [row for row in rows_of(clean, "nothing") if row.name == "good.weight"]
        assert (sound.status, sound.alpha, sound.content_hash) == ("success", expected.alpha, expected.content_hash)
    assert result.exit_code == 3


def test_a_model_that_ends_worker_after_worker_is_given_up(evil: Path, workers: WorkerExecutor) -> None:
    """Three deaths, not one for each tensor."""
    from ww_static import engine

    path = deed(evil, "read", "segv")
    text = (evil.parent / "site" / "evil_reader.py").read_text()
    many = text.replace('("good", "bad")', "map(str, range(40))").replace('spec.name == "bad.weight"', "True")
    (evil.parent / "site" / "evil_reader.py").write_text(many)
    result = ww.analyze(path, executor=workers)
    said = [row.message for row in result.rows]
    assert len(said) == 40
    assert said.count("worker died by SIGSEGV") == engine.MOST_DEATHS
    assert said.count(f"not read: {engine.MOST_DEATHS} workers died on this model") == 40 - engine.MOST_DEATHS


def test_a_tensor_that_kills_the_worker_that_copies_it_leaves_no_new_model(evil: Path) -> None:
    path = deed(evil, "read", "segv")
    with pytest.raises(ww.ReaderError, match=r"segv\.evil: reader_crash: worker died by SIGSEGV"):
        ww.smooth(path, evil / "out.safetensors")
    assert os.listdir(evil) == [path.name]


def test_a_tensor_that_kills_the_worker_that_transforms_it_is_copied(evil: Path) -> None:
    path = deed(evil, "read", "segv")
    text = (evil.parent / "site" / "evil_reader.py").read_text()
    fourth = text.replace('if spec.name == "bad.weight":', 'READ.append(spec.name)\n        if READ.count("bad.weight") > 3:')
    (evil.parent / "site" / "evil_reader.py").write_text(fourth.replace("SHAPE = ", "READ: list[str] = []\nSHAPE = "))
    result = ww.smooth(path, evil / "out.safetensors", method="svd", percent=0.5)
    rows = {row.name: row for row in result.rows}
    assert (rows["good.weight"].status, rows["bad.weight"].status) == ("changed", "failed")
    assert (rows["bad.weight"].reason, rows["bad.weight"].message) == ("reader_crash", "worker died by SIGSEGV")
    assert result.exit_code == 3
    with ww.open(evil / "out.safetensors") as checkpoint:
        kept = np.random.default_rng(2).standard_t(3, (24, 16)).astype(np.float32)
        np.testing.assert_array_equal(checkpoint.read(checkpoint.spec("bad.weight")), kept)


def test_what_a_file_prints_is_neither_data_nor_talk(evil: Path) -> None:
    path = deed(evil, "open", "chat")
    done = subprocess.run(
        [sys.executable, "-m", "ww_static", "analyze", str(path), "-f", "json"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert [row["name"] for row in json.loads(done.stdout)["layers"]] == ["bad.weight", "good.weight"]
    assert done.stderr == ""


def limits() -> dict[str, tuple[int, int]]:
    names = ("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_DATA", "RLIMIT_CPU")
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def environment() -> tuple[str | None, str | None, str, list[str]]:
    targets = [os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)]
    return os.environ.get("HDF5_PLUGIN_PATH"), os.environ.get("HDF5_PLUGIN_PRELOAD"), os.getcwd(), targets


def test_a_worker_has_limits_of_its_own_and_this_process_has_none(
    workers: WorkerExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = limits()
    found = workers.delegate(Allowance(7.0, 2**28), limits, ()).result(60)
    assert found["RLIMIT_CORE"][0] == found["RLIMIT_FSIZE"][0] == 0
    assert found["RLIMIT_NOFILE"][0] <= 512
    assert 2**28 < found["RLIMIT_DATA"][0] < 2**30
    assert 7 < found["RLIMIT_CPU"][0] < 60
    assert limits() == before
    plugins, preload, _, targets = workers.submit(environment).result(60)
    assert (plugins, preload, targets) == (None, "::", ["/dev/null"] * 3)


def test_a_task_after_a_large_one_is_held_to_its_own_limit(workers: WorkerExecutor) -> None:
    assert workers.delegate(Allowance(60, 2**30), hoard, (2**29,)).result(60) == 2**29
    with pytest.raises(MemoryError):
        workers.delegate(Allowance(60, 2**26), hoard, (2**29,)).result(60)
    assert workers.delegate(Allowance(60, 2**30), hoard, (2**29,)).result(60) == 2**29


def hoard(size: int) -> int:
    return len(bytearray(size))


def test_workers_are_reused(workers: WorkerExecutor) -> None:
    assert len({workers.submit(os.getpid).result(60) for _ in range(20)}) <= 2


def test_an_idle_worker_that_is_killed_is_replaced() -> None:
    pool = WorkerExecutor(1)
    try:
        first = pool.submit(os.getpid).result(60)
        os.kill(first, signal.SIGKILL)
        for _ in range(100):  # its supervisor looks ten times a second
            try:
                second = pool.submit(os.getpid).result(60)
            except WorkerDiedError:
                time.sleep(0.05)
                continue
            assert second != first
            break
        else:
            pytest.fail("no worker came back")
    finally:
        pool.shutdown()


def test_the_parent_opens_and_maps_nothing_of_a_model(evil: Path) -> None:
    """An audit hook in the process of the command: every open, listing and map below the folder of the models is counted."""
    honest(evil)
    (evil / "config.json").write_text('{"model_type": "bert"}')
    script = textwrap.dedent("""
        import os, sys
        folder, command = sys.argv[1], sys.argv[2:]
        touched = []
        def watch(event, arguments):
            if event in ("open", "os.listdir", "os.scandir") and arguments and isinstance(arguments[0], (str, bytes)):
                if os.fsdecode(arguments[0]).startswith(folder):
                    touched.append((event, arguments[0]))
            if event == "mmap.__new__":
                touched.append((event, arguments[:2]))
        sys.addaudithook(watch)
        from ww_static import cli
        code = cli.run([*command, folder, "-f", "json"])
        assert code == 0, code
        assert touched == [], touched
        open(os.path.join(folder, "config.json")).close()
        assert touched, "the hook does not see an open"
    """)
    for command in (["analyze"], ["describe"]):
        done = subprocess.run(
            [sys.executable, "-c", script, os.fspath(evil), *command], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]


def big(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path.write_bytes(safetensors_bytes({f"layer.{i}.weight": rng.standard_normal((400, 300)).astype("f4") for i in range(6)}))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def rewrite(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(size // 2)
        stream.write(bytes(size // 4))


def replace_by_rename(path: Path) -> None:
    other = path.with_suffix(".new")
    big(other, 99)
    os.replace(other, path)


@pytest.mark.parametrize("change", [cut, rewrite, replace_by_rename])
def test_a_file_that_changes_while_it_is_read_costs_itself_only(evil: Path, workers: WorkerExecutor, change: Any) -> None:
    """At 21 moments of a run, from before its first task to after its last."""
    rng = np.random.default_rng(11)
    other, victim = evil / "a.safetensors", evil / "v.safetensors"
    big(other, 1)
    big(victim, 2)
    began = time.monotonic()
    clean = ww.analyze([other, victim], executor=workers)
    length = time.monotonic() - began
    touched = 0
    for moment in (0.0, *rng.uniform(0, 1.2, 19), 1.5):
        big(victim, 2)
        timer = threading.Timer(moment * length, change, (victim,))
        timer.start()
        result = ww.analyze([other, victim], executor=workers)
        timer.join()
        assert rows_of(result, "a") == rows_of(clean, "a")
        same = rows_of(result, "v") == rows_of(clean, "v")
        trouble = {row.reason or row.category for row in rows_of(result, "v") if row.status in ("failed", "error")}
        trouble |= {row.category for row in result.file_rows if row.model_id == "v" and row.status == "error"}
        if result.exit_code == 3:
            assert trouble <= {"changed_while_reading", "truncated", "size_mismatch", "reader_crash"}, trouble
            touched += 1
        else:  # too early or too late: one state of the file, whole
            assert trouble == set()
            assert same or change is not cut
    assert touched


def test_in_this_process_nothing_is_contained_and_nothing_is_limited(evil: Path) -> None:
    """For files that are trusted: the inline executor gives the same rows."""
    good = honest(evil)
    before = limits()
    with InlineExecutor() as here:
        assert ww.analyze(good, executor=here).layers.equals(ww.analyze(good).layers)
    assert limits() == before


def test_a_daemonic_process_is_told_what_to_do(evil: Path) -> None:
    good = honest(evil)
    script = textwrap.dedent(f"""
        import multiprocessing, ww_static

        def read(path):
            try:
                ww_static.analyze(path)
            except ww_static.UsageError as error:
                assert "InlineExecutor" in str(error)
                with ww_static.InlineExecutor() as here:
                    return len(ww_static.analyze(path, executor=here))

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(read, [{os.fspath(good[0])!r}]))
    """)
    program = evil.parent / "program.py"
    program.write_text(script)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[3]\n", "")


def families(text: str) -> list[int]:
    """Processes of this machine whose command line or environment holds a text that only one test uses."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if text.encode() in Path(f"/proc/{name}/environ").read_bytes():
                found.append(int(name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("name", ["stuck", "sleep", "loop"])
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_behind_by_a_command_that_is_ended(evil: Path, name: str, ending: int) -> None:
    path = deed(evil, "open", name)
    mark = f"MARK_{os.getpid()}_{name}_{ending}"
    command = [sys.executable, "-m", "ww_static", "describe", os.fspath(path), "--timeout", "6"]
    process = subprocess.Popen(command, env=os.environ | {"MARK": mark}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        if len(families(mark)) >= 4:  # the command, the server, its tracker, a worker
            break
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(ending)
    assert process.wait(60) == (130 if ending == signal.SIGTERM else -9)
    for _ in range(400):
        left = families(mark)
        if not left:
            break
        time.sleep(0.1)
    assert left == []


@pytest.mark.parametrize("command", ["analyze", "describe"])
def test_an_early_interruption_is_quiet(evil: Path, command: str) -> None:
    (path, _) = honest(evil)
    for moment in (0.05, 0.15, 0.3, 0.5, 0.8):
        process = subprocess.Popen(
            [sys.executable, "-m", "ww_static", command, os.fspath(path)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        not_begun = "import site" in said or "import runpy" in said  # the interpreter itself
        if not_begun or process.returncode == -signal.SIGINT:
            continue
        assert "Traceback" not in said, (moment, said)
        assert process.returncode in (0, 130), (moment, said)


def test_the_caller_keeps_its_main_module(evil: Path) -> None:
    good = honest(evil)
    script = textwrap.dedent(f"""
        import sys, threading, ww_static
        me = sys.modules["__main__"]
        seen, over = [], threading.Event()

        def look():
            while not over.is_set():
                if sys.modules["__main__"] is not me:
                    seen.append(1)

        watcher = threading.Thread(target=look)
        watcher.start()
        threads = [threading.Thread(target=ww_static.analyze, args=({os.fspath(good[0])!r},)) for _ in range(3)]
        [one.start() for one in threads]
        [one.join() for one in threads]
        over.set()
        watcher.join()
        print(len(seen), sys.modules["__main__"] is me)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("0 True\n", "")


def test_an_executor_that_breaks_costs_rows_and_not_the_run(evil: Path) -> None:
    good = honest(evil)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        result = ww.analyze([good[0], deed(evil, "open", "kill"), good[1]], executor=pool)
    assert {row.category for row in result.rows if row.status == "error"} == {"reader_crash"}
    assert result.exit_code == 3
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    result = ww.analyze(good, executor=closed)
    assert [row.category for row in result.rows] == ["reader_crash"] * 2


def test_an_argument_that_holds_up_its_worker_costs_itself_only(evil: Path, workers: WorkerExecutor) -> None:
    """A fifo in place of the file that names a revision; a name that no file can have is refused before anything is read."""
    good = honest(evil)
    cache = evil / "models--a--b"
    (cache / "refs").mkdir(parents=True)
    (cache / "snapshots" / "abc").mkdir(parents=True)
    os.mkfifo(cache / "refs" / "main")
    shutil.copy(good[0], cache / "snapshots" / "abc" / "model.safetensors")
    clean = ww.analyze(good, executor=workers)
    result = ww.analyze([good[0], cache, good[1]], executor=workers)
    assert rows_of(result, "a") == rows_of(clean, "a")
    assert rows_of(result, "z") == rows_of(clean, "z")
    assert len(rows_of(result, "model")) == 3
    assert not [row for row in result.rows if row.status == "error"]
    with pytest.raises(ww.UsageError, match="no file can be called by the path"):
        ww.analyze([good[0], "a\0b"], executor=workers)


def blas_counts(threads: int) -> tuple[set[int], set[int]]:
    from threadpoolctl import threadpool_info

    def now() -> set[int]:
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    with blas_threads(threads):
        within = now()
    return within, now()


def test_a_worker_has_one_blas_thread_unless_it_is_given_more_for_a_while(workers: WorkerExecutor) -> None:
    for threads in (1, 2, 1):
        assert workers.submit(blas_counts, threads).result(60) == ({threads}, {1})


def test_workers_end_although_an_interruption_left_a_waiter_behind(tmp_path: Path) -> None:
    """Ctrl-C between the two steps of a notification: the next one goes to a waiter that has left (queue.Queue of Python 3.11)."""
    script = (
        "import threading, time\nfrom ww_static.workers.executors import WorkerExecutor\n"
        "if __name__ == '__main__':\n"
        "    workers = WorkerExecutor(1)\n    assert workers.submit(len, [1]).result() == 1\n"
        "    queue = workers._hands[0]._pool._context.task_queue\n"
        "    left = threading.Lock()\n    left.acquire()\n"
        "    with queue.mutex:\n        queue.not_empty._waiters.appendleft(left)\n"
        "    workers.shutdown()\n    print('ended')\n"
    )
    path = tmp_path / "script.py"
    path.write_text(script)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("ended\n", 0), done.stderr


def test_nothing_is_imported_from_the_folder_of_a_model(tmp_path: Path) -> None:
    model, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    model.mkdir()
    elsewhere.mkdir()
    (model / "m.safetensors").write_bytes(safetensors_bytes({"a.weight": np.eye(20, dtype=np.float32)}))
    for name in ("multiprocessing", "socket", "numpy", "json", "struct", "ww_static"):
        (model / f"{name}.py").write_text(f"open({name + '.ran'!r}, 'w').close()\nraise SystemExit(9)\n")
    program = elsewhere / "program.py"
    program.write_text("from ww_static.__main__ import main\nmain()\n")
    done = subprocess.run(
        [sys.executable, str(program), "analyze", "m.safetensors", "-f", "json"], cwd=model, capture_output=True, text=True
    )
    assert [path.name for path in model.glob("*.ran")] == []
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["layers"][0]["matrix_rank"] == 20
