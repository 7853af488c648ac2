"""Executors: what they start, return and stop, here, on Ray and on a stand-in for Slurm; and that runs go on."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path

import pytest

from experiments import attempt, executors
from experiments.executors import Task, local, slurm
from utils.errors import UserError

WORK = """
import json, os, signal, sys, time
from pathlib import Path
folder, n_steps, pause = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
folder.mkdir(parents=True, exist_ok=True)
saved = [int(path.name) for path in (folder / "models" / "run").glob("*")]
step = max(saved, default=0)
with (folder / "starts").open("a") as file:
    print(step, file=file)
print("began", flush=True)
while step < n_steps and not asked:
    time.sleep(pause)
    step += 1
    (folder / "models" / "run" / str(step)).mkdir(parents=True)
    with (folder / "steps").open("a") as file:
        print(step, file=file)
sys.exit(143 if asked else 0)
"""
"""Stands in for a run: counts, saves each number as a checkpoint, goes on from the newest, and obeys SIGTERM."""


@pytest.fixture
def make_task(tmp_path):
    script = tmp_path / "work.py"
    script.write_text(WORK)

    def make(name="run", n_steps=3, pause=0.01):
        command = (sys.executable, str(script), str(tmp_path / name), str(n_steps), str(pause))
        return Task(name, command, tmp_path / name / "log.txt")

    return make


def run_all(executor, tasks, seconds=120.0, at=lambda: None):
    """Exit statuses by name."""
    for task in tasks:
        executor.start(task)
    found, deadline = {}, time.monotonic() + seconds
    while len(found) < len(tasks):
        found |= {ended.task.name: ended.status for ended in executor.poll()}
        at()
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


def starts(task):
    return [int(line) for line in (task.log.parent / "starts").read_text().split()]


def steps(task):
    return [int(line) for line in (task.log.parent / "steps").read_text().split()]


# --- this machine


def test_commands_run_some_at_once_and_their_statuses_are_returned(make_task, tmp_path):
    tasks = [make_task(f"run{i}") for i in range(4)]
    bad = Task("bad", (sys.executable, "-c", "import sys; print('no'); sys.exit(3)"), tmp_path / "bad" / "log")
    killed = Task("killed", (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"), tmp_path / "killed" / "log")
    executor = local.LocalExecutor(2)
    most = []
    found = run_all(executor, [*tasks, bad, killed], at=lambda: most.append(len(executor._running)))
    assert found == {**{f"run{i}": 0 for i in range(4)}, "bad": 3, "killed": 137} and max(most) == 2
    assert bad.log.read_text() == "no\n" and steps(tasks[0]) == [1, 2, 3]


def test_a_stop_lets_runs_save_and_those_that_wait_never_begin(make_task):
    running, waiting = make_task("running", 10_000), make_task("waiting")
    executor = local.LocalExecutor(1)
    executor.start(running)
    executor.start(waiting)
    while not (running.log.parent / "steps").exists():
        executor.poll()
        time.sleep(0.01)
    executor.stop([running, waiting])
    found = {}
    while len(found) < 2:
        found |= {ended.task.name: ended.status for ended in executor.poll()}
    assert found == {"running": 143, "waiting": executors.STOPPED} and not waiting.log.parent.exists()


@pytest.mark.slow
def test_five_hundred_tiny_runs_cost_little_more_than_themselves(tmp_path):
    """The limit is 5 % and a second per run; of commands that end at once, all that is measured is overhead."""
    tasks = [Task(str(i), ("/bin/true",), tmp_path / str(i) / "log") for i in range(500)]
    began = time.monotonic()
    assert set(run_all(local.LocalExecutor(2), tasks).values()) == {0}
    assert time.monotonic() - began < 500 * 0.2


# --- one attempt


def test_an_attempt_goes_on_from_the_newest_checkpoint_and_clears_older_runs_away(tmp_path, monkeypatch):
    for step in (10, 90):
        (tmp_path / "models" / "old" / str(step)).mkdir(parents=True)
    (tmp_path / "models" / "new" / "120").mkdir(parents=True)
    became = []
    monkeypatch.setattr(os, "execve", lambda program, words, environment: became.append(words))
    monkeypatch.setattr(attempt, "end_with_parent", lambda: None)
    attempt.main(tmp_path, "main.py", "--config=iql")
    (words,) = became
    assert words[1:3] == ["main.py", "--config=iql"] and f"checkpoint_path={tmp_path / 'models' / 'new'}" in words
    assert not (tmp_path / "models" / "old").exists()
    assert attempt.read_note(tmp_path)[1] == 120 and attempt.read_note(tmp_path / "nowhere") == (0.0, 0)


def test_two_attempts_at_one_run_never_work_at_the_same_time(tmp_path, monkeypatch):
    command = [sys.executable, attempt.__file__, str(tmp_path / "run"), "-c"]
    first = subprocess.Popen([*command, "import time; time.sleep(60)"])
    while attempt.read_note(tmp_path / "run") == (0.0, 0):
        time.sleep(0.02)
    code = "import sys, pathlib, experiments.attempt as a; a.OTHERS_SECONDS = 0.3; "
    code += f"sys.exit(a.main(pathlib.Path({str(tmp_path / 'run')!r}), '-c', 'pass'))"
    second = subprocess.run([sys.executable, "-c", code], cwd=os.path.dirname(os.path.dirname(attempt.__file__)))
    assert second.returncode == attempt.TAKEN
    first.terminate()
    first.wait()
    assert subprocess.run([*command, "pass"]).returncode == 0


def test_a_run_whose_parent_dies_is_asked_to_save(tmp_path, make_task):
    """The executor's process is killed; the run it started gets SIGTERM and ends."""
    task = make_task("run", 10_000)
    command = [sys.executable, attempt.__file__, str(tmp_path / "run"), *task.command[1:]]
    code = f"import subprocess; subprocess.Popen({command!r}).wait()"
    parent = subprocess.Popen([sys.executable, "-c", code])
    while not (tmp_path / "run" / "steps").exists():
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    assert attempt.lock_run(tmp_path / "run", 20), "it has not ended"


# --- Ray


@pytest.fixture(scope="class")
def ray():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # of itself Ray lets every other process go first
        yield pytest.importorskip("ray", reason="ray is not installed")


@pytest.fixture(scope="class")
def on_ray(ray):
    """Ray on this machine, which takes seconds to start."""
    from experiments.executors.ray import RayExecutor

    executor = RayExecutor(None, 2, 1.0, 0.0, retries=2)
    yield executor
    executor.close()


@pytest.fixture(scope="class")
def ray_cluster(ray):
    """A cluster whose nodes, of a core each, tests add and remove."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
class TestRayOnThisMachine:
    def test_runs_on_ray_return_their_statuses_and_a_stop_lets_them_save(self, on_ray, make_task, tmp_path):
        bad = Task("bad", (sys.executable, "-c", "import sys; print('no'); sys.exit(3)"), tmp_path / "bad" / "log")
        assert run_all(on_ray, [make_task("a"), make_task("b"), bad]) == {"a": 0, "b": 0, "bad": 3}
        assert bad.log.read_text() == "no\n"
        endless, waiting = make_task("endless", 10_000), [make_task(f"w{i}", 10_000) for i in range(3)]
        for task in (endless, *waiting):
            on_ray.start(task)
        while not (endless.log.parent / "steps").exists():
            time.sleep(0.05)
        on_ray.stop([endless, *waiting])
        found = {}
        while len(found) < 4:
            found |= {ended.task.name: ended.status for ended in on_ray.poll()}
            time.sleep(0.05)
        assert set(found.values()) == {executors.STOPPED}
        last = steps(endless)[-1]
        assert (endless.log.parent / "models" / "run" / str(last)).is_dir()
        time.sleep(0.2)
        assert steps(endless)[-1] == last  # the process itself has ended, too

    def test_a_run_that_is_killed_on_ray_starts_again_as_often_as_retries_allow(self, on_ray, tmp_path):
        """As a run of a lost machine whose worker still reports how it ended."""

        def killed(name, times):
            code = f"import os; print('began', flush=True); n = open({str(tmp_path / name)!r}).read().count('began'); "
            command = (sys.executable, "-c", f"{code}n > {times} or os.kill(os.getpid(), 9)")
            return Task(name, command, tmp_path / name)

        assert run_all(on_ray, [killed("twice", 2), killed("always", 99)]) == {"twice": 0, "always": 137}
        assert (tmp_path / "twice").read_text() == (tmp_path / "always").read_text() == "began\n" * 3

    def test_five_hundred_tiny_runs_on_ray_cost_little_more_than_themselves(self, on_ray, tmp_path):
        """As on this machine, of commands that end at once all that is measured is overhead."""
        run_all(on_ray, [Task("first", ("/bin/true",), tmp_path / "first" / "log")])  # Ray starts its workers
        tasks = [Task(str(i), ("/bin/true",), tmp_path / str(i) / "log") for i in range(500)]
        began = time.monotonic()
        assert set(run_all(on_ray, tasks).values()) == {0}
        assert time.monotonic() - began < 500 * 0.2


@pytest.mark.slow
class TestRayOnSeveralMachines:
    def test_runs_of_a_node_that_is_lost_go_on_elsewhere_from_their_newest_checkpoint(
        self, ray_cluster, make_task, tmp_path
    ):
        from experiments.executors.ray import RayExecutor

        first, _ = ray_cluster.add_node(num_cpus=1), ray_cluster.add_node(num_cpus=1)
        executor = RayExecutor(ray_cluster.address, None, 1.0, 0.0, retries=3)
        inner = [make_task(f"run{i}", 30, 0.1) for i in range(2)]
        tasks = [
            Task(t.name, (sys.executable, attempt.__file__, str(t.log.parent), *t.command[1:]), t.log) for t in inner
        ]
        killed = []

        def kill_one():
            if not killed and all(t.log.parent.joinpath("steps").exists() and len(steps(t)) > 5 for t in tasks):
                ray_cluster.remove_node(first, allow_graceful=False)
                killed.append(first)

        assert run_all(executor, tasks, 300, kill_one) == {"run0": 0, "run1": 0} and killed
        began = sorted(starts(task) for task in tasks)
        assert began[0] == [0] and began[1][0] == 0 and len(began[1]) == 2 and began[1][1] > 5
        for task in tasks:
            assert sorted(set(steps(task))) == list(range(1, 31))
            assert steps(task) == list(range(1, 31))  # nothing was done twice, nothing is missing
        executor.close()

    def test_a_training_whose_node_is_lost_is_bit_for_bit_the_one_that_was_never_interrupted(
        self, ray_cluster, tmp_path
    ):
        """A sweep of one run of main.py, once alone and once with its node killed in the middle."""
        from experiments import sweep
        from experiments.executors.ray import RayExecutor

        short = {"t_max": 1800, "save_model_interval": 200, "test_interval": 600, "batch_size": 4, "rnn_hidden_dim": 16}
        alone, broken = (
            sweep.make_run(tmp_path / place, sweep.Spec(("iql",), env="goal_game"), "iql", None, 1, short)
            for place in ("alone", "broken")
        )
        queue = sweep.SweepQueue([alone], local.LocalExecutor(1))
        queue.run()
        assert not queue.failed
        while len(ray_cluster.worker_nodes) < 2:
            ray_cluster.add_node(num_cpus=1)
        executor, killed = RayExecutor(ray_cluster.address, None, 1.0, 0.0, retries=3), []
        queue = sweep.SweepQueue([broken], executor)

        def kill_its_node():
            if not killed and broken.steps() >= 600:
                process = subprocess.check_output(["pgrep", "-f", str(broken.work)], text=True).split()[0]
                raylets = {node.all_processes["raylet"][0].process.pid: node for node in ray_cluster.worker_nodes}
                while int(process) not in raylets and int(process) > 1:
                    process = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1]
                ray_cluster.remove_node(raylets[int(process)], allow_graceful=False)
                killed.append(process)

        queue._tick = kill_its_node
        queue.run()
        assert killed and not queue.failed

        def curves(run):
            lines = [json.loads(line) for line in (run.output / sweep.RECORDS / "metrics.jsonl").open()]
            return [(e["t_env"], e["key"], e["value"]) for e in lines if e["key"] != "steps_per_second"]

        assert sorted(curves(broken)) == sorted(curves(alone)) and len(list(broken.output.glob("models/*"))) == 1
        weights = [next(run.output.glob("models/*/agent.th")).read_bytes() for run in (alone, broken)]
        assert weights[0] == weights[1]


def test_a_ray_cluster_that_can_not_be_reached_is_one_sentence(ray):
    from experiments.executors.ray import RayExecutor

    for address in ("127.0.0.1:1", "nonsense"):
        with pytest.raises(UserError, match=f"there is no Ray cluster at --address={address}"):
            RayExecutor(address, None, 1.0, 0.0, 0)


def test_without_ray_one_sentence_says_how_to_get_it(monkeypatch):
    from experiments.executors.ray import RayExecutor

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="pip install -r requirements-sweep.txt"):
        RayExecutor(None, 1, 1.0, 0.0, 0)


# --- Slurm

STAND_IN = """#!{python}
import json, os, re, signal, subprocess, sys, time
from pathlib import Path
state, name, args = Path({state!r}), Path(sys.argv[0]).name, sys.argv[1:]
options = dict(a.lstrip("-").split("=", 1) if "=" in a else (a.lstrip("-"), "") for a in args if a.startswith("-"))
words = [a for a in args if not a.startswith("-")]
with (state / "asked").open("a") as file:
    print(json.dumps([name, *args]), file=file)

def alive(entry):
    pid = int(entry.read_text())
    try:
        return not Path(f"/proc/{{pid}}/stat").read_text().split(")")[1].split()[0] == "Z"
    except OSError:
        return False

def begin(job, number):
    script = state / f"{{job}}.sh"
    environment = {{**os.environ, "SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": number}}
    process = subprocess.Popen(["bash", script], env=environment, start_new_session=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (state / f"{{job}}_{{number}}").write_text(str(process.pid))

if name == "sbatch":
    if "refuse" in options:
        sys.exit("sbatch: error: invalid partition specified: refuse")
    script = Path(words[0]).read_text()
    job = str(100 + len(list(state.glob("*.sh"))))
    (state / f"{{job}}.sh").write_text(script)
    for number in range(int(re.search(r"--array=0-([0-9]+)", script)[1]) + 1):
        begin(job, str(number))
    print(job)
elif name == "squeue" and options.get("states") != "PENDING":
    print("\\n".join(entry.name for entry in state.glob("*_*") if alive(entry)))
elif name == "scancel" and options.get("signal") == "TERM":
    os.kill(int((state / words[0]).read_text()), signal.SIGTERM)
elif name == "scontrol":
    begin(*words[1].split("_"))
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Commands of Slurm's names that run arrays on this machine; gives the folder that says what was asked."""
    state, programs = tmp_path / "slurm-state", tmp_path / "bin"
    state.mkdir()
    programs.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        (programs / name).write_text(STAND_IN.format(python=sys.executable, state=str(state)))
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(slurm, "GRACE_SECONDS", 0.5)
    return state


def test_all_runs_become_one_slurm_array_and_their_statuses_are_read(cluster, make_task, tmp_path):
    executor = slurm.SlurmExecutor(tmp_path / "out", 2, 1, 1, "--partition=long")
    bad = Task("bad", (sys.executable, "-c", "import sys; print('it\\'s'); sys.exit(3)"), tmp_path / "b ad" / "log")
    assert run_all(executor, [make_task("a"), make_task("b"), bad]) == {"a": 0, "b": 0, "bad": 3}
    assert bad.log.read_text() == "it's\n"
    asked = [json.loads(line) for line in (cluster / "asked").read_text().splitlines()]
    (submitted,) = [words for words in asked if words[0] == "sbatch"]
    assert submitted[1:3] == ["--parsable", "--partition=long"]
    script = (cluster / "100.sh").read_text()
    for line in ("--array=0-2%2", "--requeue", "--signal=B:TERM@120", "--gpus-per-task=1"):
        assert f"#SBATCH {line}\n" in script


@pytest.mark.slow
def test_a_slurm_task_whose_time_is_up_saves_is_requeued_and_goes_on(cluster, make_task, tmp_path):
    executor, task, sent = slurm.SlurmExecutor(tmp_path / "out", 1, 1, 0, ""), make_task("run", 30, 0.05), []

    def time_is_up():
        if not sent and (task.log.parent / "steps").exists():
            sent.append(os.kill(int((cluster / "100_0").read_text()), signal.SIGTERM))

    assert run_all(executor, [task], at=time_is_up) == {"run": 0} and sent
    assert len(starts(task)) == 2 and starts(task)[1] > 0 and steps(task) == list(range(1, 31))


def begin(executor, task):
    """Starts a task and waits until it is at work."""
    executor.start(task)
    while not (task.log.parent / "steps").exists():
        executor.poll()
        time.sleep(0.05)


def test_a_stop_on_slurm_lets_runs_save_and_does_not_requeue_them(cluster, make_task, tmp_path):
    executor, task = slurm.SlurmExecutor(tmp_path / "out", 1, 1, 0, ""), make_task("run", 10_000, 0.02)
    begin(executor, task)
    executor.stop([task])
    while not (ended := executor.poll()):
        time.sleep(0.05)
    assert ended[0].status == 143 and len(starts(task)) == 1


@pytest.mark.slow
def test_a_slurm_task_that_vanishes_is_reported(cluster, make_task, tmp_path):
    executor, task = slurm.SlurmExecutor(tmp_path / "out", 1, 1, 0, ""), make_task("run", 10_000, 0.02)
    begin(executor, task)
    os.killpg(int((cluster / "100_0").read_text()), signal.SIGKILL)
    while not (ended := executor.poll()):
        time.sleep(0.05)
    assert ended[0].status == slurm.LOST and "no exit status" in ended[0].problem


def test_what_slurm_refuses_is_one_sentence(cluster, make_task, tmp_path, monkeypatch):
    executor = slurm.SlurmExecutor(tmp_path / "out", 1, 1, 0, "--refuse")
    executor.start(make_task())
    with pytest.raises(UserError, match="Slurm refuses the runs: sbatch: error: invalid partition"):
        executor.poll()
    with pytest.raises(UserError, match="fractions are Ray's"):
        slurm.SlurmExecutor(tmp_path / "out", 1, 1, 0.5, "")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="needs Slurm's sbatch, squeue, scancel; run it on a login node"):
        slurm.SlurmExecutor(tmp_path / "out", 1, 1, 0, "")


# --- options


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--jobs", "0"], "--jobs=0 must be at least 1"),
        (["--retries", "-1"], "--retries"),
        (["--cpus", "0"], "--cpus=0 must be above 0"),
        (["--address", "a:1"], "--address=a:1 is of a Ray cluster; add --on ray"),
        (["--slurm", "--time=1"], "is for Slurm; add --on slurm"),
    ],
)
def test_options_that_can_not_be_meant_are_refused(given, sentence):
    parser = ArgumentParser()
    executors.add_arguments(parser)
    words = [f"{given[0]}={given[1]}"]
    with pytest.raises(UserError, match=sentence):
        executors.check_arguments(parser.parse_args(words))
