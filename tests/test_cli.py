"""The real command line: mistakes, help, records of short runs, interruption, runs started at the same moment."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import yaml

import main
from config import layers
from utils.config import flatten
from utils.errors import UserError
from utils.yaml_files import load_yaml

MAIN = Path(main.__file__)
ALGORITHMS = sorted(path.stem for path in (MAIN.parent / "config" / "algs").glob("*.yaml"))
IQL = ("--config=iql", "--env-config=sc2")
SHORT_RUN = (
    "with",
    "env_args.map_name=3m",
    "t_max=300",
    "batch_size=2",
    "buffer_size=20",
    "test_interval=100",
    "test_nepisode=2",
    "log_interval=50",
    "runner_log_interval=50",
    "learner_log_interval=50",
    "save_model=True",
    "save_model_interval=100",
)
METRICS = {
    "return_mean",
    "test_return_mean",
    "battle_won_mean",
    "test_battle_won_mean",
    "ep_length_mean",
    "epsilon",
    "td_error_abs",
}
Q_METRICS = {"loss", "grad_norm", "q_taken_mean", "target_mean"}
METRICS_OF = {
    "iql_omg": Q_METRICS | {"omg_recon_loss", "omg_kl", "eta", "subgoal_hit_ratio"},
    "qtran": {"loss", "grad_norm", "td_loss", "opt_loss", "nopt_loss", "td_targets", "td_chosen_qs", "v_mean"},
    "coma": {"critic_loss", "critic_grad_norm", "advantage_mean", "coma_loss", "agent_grad_norm", "pi_max"},
}


def command_line(*params, cwd):
    return subprocess.run(
        [sys.executable, str(MAIN), *params], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def short_run(folder, alg, seed, is_process):
    """A finished short run with its records: (what it printed, config, run, info, metrics)."""
    params = (f"--config={alg}", "--env-config=sc2", f"--seed={seed}", f"--local_results_path={folder}", *SHORT_RUN)
    if alg == "iql_omg":
        params += ("omg_vae_pretrain_steps=100",)
    if is_process:
        finished = command_line(*params, cwd=folder)
        status, printed = finished.returncode, finished.stdout
    else:
        with redirect_stdout(StringIO()) as output:
            status = main.main(params)
        printed = output.getvalue()
    assert status == 0
    records = folder / "sacred" / "1"
    return printed, *(
        json.loads((records / f"{name}.json").read_text()) for name in ("config", "run", "info", "metrics")
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Gives short runs by (algorithm, seed), each played once: in this process or in one of its own."""
    cache = {}

    def get(alg, seed=1, is_process=False):
        key = (alg, seed, is_process)
        if key not in cache:
            cache[key] = short_run(tmp_path_factory.mktemp(alg), *key)
        return cache[key]

    return get


# --- mistakes


@pytest.mark.parametrize(
    ("params", "fragments"),
    [
        ((), ("--config is missing", "--config=NAME", ", ".join(ALGORITHMS))),
        (("--config=qmix",), ("--env-config is missing", "sc2")),
        (("--config", "qmix", "--env-config=sc2"), ("--config is missing", "--config=NAME")),
        (("--config=qmix", *IQL), ("--config is given twice",)),
        (("--config=iql_ogm", "--env-config=sc2"), ("'iql_ogm'", "did you mean 'iql_omg'?", "config/algs")),
        (("--config=../default", "--env-config=sc2"), ("'../default'", "known: coma, cw_qmix")),
        (("--config=iql", "--env-config=sc"), ("--env-config", "did you mean 'sc2'?", "config/envs")),
        ((*IQL, "--t_mx=5"), ("command line", "'t_mx'", "did you mean 't_max'?", "--help")),
        ((*IQL, "with", "env_args.map_nam=3m"), ("'env_args.map_nam'", "did you mean 'env_args.map_name'?")),
        ((*IQL, "with", "t_max=abc"), ("t_max=abc", "a whole number in environment steps, at least 1")),
        ((*IQL, "--t_max=0"), ("t_max=0", "at least 1")),
        ((*IQL, "--lr=1e-4x"), ("lr=1e-4x", "a number, above 0")),
        ((*IQL, "--t_max"), ("--t_max needs a value", "--t_max=VALUE")),
        ((*IQL, "--use_cuda=yess"), ("use_cuda=yess", "True or False")),
        ((*IQL, "--env_args=3m"), ("'env_args' is a group of keys", "env_args.engine")),
        ((*IQL, "--env_args.map_name=3mm"), ("'3mm'", "did you mean '3m'?", "8m")),
        ((*IQL, "--env_args.engine=simm"), ("engine=simm", "auto, game, sim", "did you mean 'sim'?")),
        ((*IQL, "--runner=episodic"), ("'episodic'", "did you mean 'episode'?")),
        ((*IQL, "--mixing_embed_dim=64"), ("'mixing_embed_dim'", "it belongs to mixer=qmix and mixer=qtran_base")),
        ((*IQL, "--resolved.seed=1"), ("'resolved.seed'",)),
        ((*IQL, "t_max=5"), ("'t_max=5'", "goes after `with`", "--t_max=5")),
        ((*IQL, "with", "debug"), ("'debug' after `with`", "debug=VALUE")),
        ((*IQL, "-n"), ("can't make sense of '-n'", "--help")),
        ((*IQL, "with", "nowhere.json"), ("'nowhere.json' after `with` is no setting; there is no such file",)),
        ((*IQL, "--label"), ("--label needs a value",)),
        ((*IQL, "--rnn_hidden_dim=1000000000"), ("rnn_hidden_dim=1000000000", "at most 4,096")),
        ((*IQL, "--local_results_path=/" + "a" * 5000), ("(5,001 characters)", "a path that a system can have")),
        ((*IQL, "--id=../x"), ("--id=../x is no name for a run",)),
        ((*IQL, "--file_storage=/dev/null/x"), ("--file_storage='/dev/null/x'",)),
        ((*IQL, "--file_storage=~nobody-is-called-so/x"), ("--file_storage: ~nobody-is-called-so/x names a home",)),
        ((*IQL, "--batch_size=6000"), ("batch_size=6000", "buffer_size=5000")),
        ((*IQL, "--local_results_path=/dev/null/x"), ("'/dev/null/x'", "/dev/null is not a folder")),
        ((*IQL, "--save_replay", "--env_args.replay_dir=/dev/null/x"), ("env_args.replay_dir='/dev/null/x'",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_mistake_is_one_sentence_exit_status_2_and_nothing_on_disk(tmp_path, monkeypatch, capfd, params, fragments):
    monkeypatch.chdir(tmp_path)
    assert main.main(list(params)) == 2
    output, sentence = capfd.readouterr()
    assert output == "" and sentence.startswith("error: ") and sentence.count("\n") == 1
    for fragment in fragments:
        assert fragment in sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_program_prints_that_sentence_alone_and_ends_with_that_status(tmp_path):
    finished = command_line(*IQL, "--env_args.map_name=3mm", cwd=tmp_path)
    assert finished.returncode == 2 and finished.stdout == "" and list(tmp_path.iterdir()) == []
    assert finished.stderr.startswith("error: ") and finished.stderr.count("\n") == 1 and "'3mm'" in finished.stderr


@pytest.mark.parametrize(
    ("param", "fragment"),
    [
        ("--loglevel=FOO", "Unknown level: 'FOO'"),
        ("--capture=foo", "Unknown capture mode 'foo'"),
        ("--priority=x", "must be a number"),
        ("--beat-interval=x", "could not convert string to float"),
        ("--beat-interval=1e300", "must be a number of seconds"),
        ("--s3=x", "Valid bucket specification not found"),
        ("--sql=garbage", "Sacred can't start the run"),
        ("--local_results_path=/proc/x", "the folder can't be made"),
        ("--file_storage=/proc/x", "the folder can't be made"),
    ],
)
def test_what_sacred_or_the_system_refuses_is_one_sentence_and_no_record(
    tmp_path, capsys, monkeypatch, param, fragment
):
    monkeypatch.setattr(sys, "__stderr__", sys.__stderr__)
    monkeypatch.setattr(main, "resolve", lambda config: config)
    if "results" not in param:
        param = f"--local_results_path={tmp_path}", param
    assert main.main([*IQL, *((param,) if isinstance(param, str) else param)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1 and fragment in message
    assert list(tmp_path.rglob("*.json")) == []


def test_an_id_that_is_taken_is_refused(tmp_path):
    (tmp_path / "sacred" / "17").mkdir(parents=True)
    with pytest.raises(UserError, match=r"--id=17 is taken: .*sacred/17 is there"):
        configured("--id=17", f"--local_results_path={tmp_path}")
    (tmp_path / "more" / "18").mkdir(parents=True)
    with pytest.raises(UserError, match="--id=18 is taken: .*more/18 is there"):
        configured("--id=18", f"--local_results_path={tmp_path}", f"--file_storage={tmp_path / 'more'}")


def test_two_folders_of_records_have_numbers_of_their_own(tmp_path, monkeypatch):
    def my_main():
        """Stands in for a run."""

    monkeypatch.setattr(main, "my_main", my_main)
    (tmp_path / "more" / "1").mkdir(parents=True)
    ex = main._experiment()
    observer = main._add_file_storage(ex, tmp_path)
    config, command, options = configured(f"--file_storage={tmp_path / 'more'}")
    ex.add_config(config)
    main._run_sacred(ex, command, options)
    assert Path(observer.dir).name == "1" and (tmp_path / "more" / "2" / "config.json").is_file()


@pytest.fixture
def own_config(tmp_path, monkeypatch):
    """A copy of config/ that a test may spoil; gives its algorithms' folder."""
    shutil.copytree(main.CONFIG, tmp_path / "config")
    for module in (main, layers):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "CONFIG", tmp_path / "config")
    return tmp_path / "config" / "algs"


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ('learner: "q_learner"\nlr: [1, 2\n', ("mine.yaml", "line 3, column 1")),
        ("lr: 0.1\nlr: 0.2\n", ("mine.yaml", "line 2, column 1", "'lr' is given twice")),
        ("lrr: 0.1\n", ("config/algs/mine.yaml", "unknown key 'lrr'", "did you mean 'lr'?")),
        ("lr: fast\n", ("config/algs/mine.yaml", "lr=fast", "a number, above 0")),
        ("batch_size: 2.5\n", ("config/algs/mine.yaml", "batch_size=2.5", "a whole number in episodes")),
        ("label: 7\n", ("config/algs/mine.yaml", "label=7", "text")),
        ("learner: q_lerner\n", ("config/algs/mine.yaml", "'q_lerner'", "did you mean 'q_learner'?")),
    ],
)
def test_a_mistake_in_a_yaml_file_names_the_file(own_config, capsys, text, fragments):
    (own_config / "mine.yaml").write_text(text)
    assert main.main(["--config=mine", "--env-config=sc2"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for fragment in fragments:
        assert fragment in message


def test_mistakes_and_help_are_answered_without_importing_torch(tmp_path):
    for params, status in (
        (["--help"], 0),
        ([*IQL, "--t_max=0"], 2),
        (["--config=iql"], 2),
        ([*IQL, "--env_args.map_name=3mm"], 2),
    ):
        code = (
            f"import sys; sys.path.insert(0, {str(MAIN.parent)!r}); import main\n"
            f"assert main.main({params!r}) == {status}\n"
            "assert 'torch' not in sys.modules\n"
        )
        finished = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert finished.returncode == 0, finished.stderr


def test_help_lists_algorithms_environments_and_every_key_of_a_run_with_its_comment(capsys):
    assert main.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in (*ALGORITHMS, "sc2"):
        assert f"\n  {name} " in text
    for key in main.RUN:
        assert f"  {key}: " in text, key
    assert "batch_size: 32 # episodes in one update" in text


@pytest.mark.parametrize("name", [*ALGORITHMS, *layers.known_names("--env-config")])
def test_help_of_an_algorithm_or_an_environment_has_every_key_of_its_components(capsys, name):
    assert main.main(["--help", name]) == 0
    text = capsys.readouterr().out
    is_alg = name in ALGORITHMS
    config = layers.merge(name, "sc2", []) if is_alg else {"env_args": layers.merge("iql", name, [])["env_args"]}
    for key in dict(flatten(config)).keys() - main.RUN.keys():
        assert f"  {key}: " in text or (is_alg and key.startswith("env_args.")), key
    if name == "qmix":
        assert "gamma: 0.99 # discount per environment step (a number, at least 0, at most 1)" in text


# --- what is merged


def configured(*params):
    ex = main._experiment()
    return main._configure(ex, ["--config=qmix", "--env-config=sc2", *params])


def test_each_layer_overrides_the_ones_below_it():
    config, command, _ = configured("--lr=1e-4", "--test_nepisode=7", "with", "test_nepisode=9", "env_args.map_name=3m")
    assert config["grad_norm_clip"] == 10  # default.yaml
    assert config["t_max"] == 2050000  # envs/sc2.yaml over default.yaml
    assert config["mixer"] == "qmix"  # algs/qmix.yaml
    assert config["lr"] == 0.0001  # --key=value
    assert config["test_nepisode"] == 9  # with
    assert config["env_args"]["map_name"] == "3m" and config["env_args"]["difficulty"] == "7"
    assert command == "my_main"


def test_text_stays_as_it_is_typed_and_paths_begin_in_the_home_folder():
    given = (
        "--label=a #1",
        "--local_results_path=~/x #1",
        "with",
        "env_args.replay_dir=~/y",
        "env_args.game_version=4 #1",
    )
    config, _, _ = configured(*given)
    assert config["label"] == "a #1" and config["env_args"]["game_version"] == "4 #1"
    assert config["local_results_path"] == str(Path.home() / "x #1")
    assert config["env_args"]["replay_dir"] == str(Path.home() / "y")


def test_files_after_with_lie_below_all_single_settings(tmp_path):
    path = tmp_path / "a=b.yaml"
    path.write_text("seed: 1\nlr: 0.1\ngamma: 0.5\nenv_args:\n  map_name: 3m\n")
    config, _, _ = configured("--seed=2", "with", "lr=0.2", str(path))
    assert (config["seed"], config["lr"], config["gamma"], config["env_args"]["map_name"]) == (2, 0.2, 0.5, "3m")


def test_an_algorithms_yaml_overrides_the_environments(own_config):
    (own_config / "mine.yaml").write_text("t_max: 5\n")
    config = main.read_settings(*["--config=mine", "--env-config=sc2"])
    assert config["t_max"] == 5


def test_a_group_can_be_given_as_a_whole_and_is_merged_key_by_key():
    config, _, _ = configured("--env_args={map_name: 3m, rules: {scan_period_loops: 4}}")
    assert config["env_args"]["map_name"] == "3m" and config["env_args"]["step_mul"] == 8
    assert config["env_args"]["rules"]["scan_period_loops"] == 4
    assert config["env_args"]["rules"]["enemy_list"] == "shuffled"


def test_a_bare_flag_is_true_and_sacreds_flags_stay_sacreds():
    config, command, options = configured(
        "print_config", "--debug", "--name=x", "--force", "-c", "words", "with", "seed=3"
    )
    assert config["debug"] is True and config["seed"] == 3 and config["name"] == "qmix"
    assert command == "print_config"
    assert options["--name"] == "x" and options["--force"] and options["--comment"] == "words"
    assert not options["--debug"]


def test_print_config_shows_the_merged_configuration_and_records_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["print_config", *IQL, "--seed=5", "with", "env_args.map_name=3m"]) == 0
    shown = capsys.readouterr().out
    assert "map_name = '3m'" in shown and "seed = 5" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_runs_started_at_the_same_moment_get_records_of_their_own(tmp_path):
    n_runs, rounds = 6, 20
    folders, lock = [], threading.Lock()
    for _ in range(rounds):
        together = threading.Barrier(n_runs)

        def start(together=together):
            observer = main._add_file_storage(main._experiment(), tmp_path)
            together.wait()
            observer._make_run_dir(None)
            with lock:
                folders.append(observer.dir)

        threads = [threading.Thread(target=start) for _ in range(n_runs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(folders)) == len(folders) == n_runs * rounds


# --- whole runs


@pytest.mark.slow
@pytest.mark.parametrize("alg", ["iql", "qmix", "qtran", "coma", "iql_omg"])
def test_a_short_run_of_every_learner_completes_with_pymarls_statistics(runs, alg):
    printed, config, run, info, metrics = runs(alg, is_process=alg == "iql")
    assert run["status"] == "COMPLETED" and config["name"] == alg
    expected = METRICS | METRICS_OF.get(alg, Q_METRICS)
    assert expected <= metrics.keys() and expected <= info.keys()
    for key in expected:
        assert len(info[key]) == len(info[f"{key}_T"]) == len(metrics[key]["values"]) > 0
        assert all(type(value) is float for value in info[key]), key
    assert "records: " in printed


@pytest.mark.slow
def test_what_a_run_wrote_lies_where_it_says(runs):
    printed, config, *_ = runs("iql", is_process=True)
    said = dict(line.split(": ", 1) for line in printed.splitlines() if ": /" in line)
    assert set(said) == {"records", "curves", "models"}
    for path in map(Path, said.values()):
        assert path.is_relative_to(config["local_results_path"]) and any(path.rglob("*")), path
    assert list(Path(said["models"]).glob("*/agent.th"))


@pytest.mark.slow
def test_a_replay_of_saved_models_lies_where_the_run_says(runs, tmp_path, capsys):
    models = next(Path(runs("iql", is_process=True)[1]["local_results_path"]).glob("models/*"))
    params = ("with", "env_args.map_name=3m", f"checkpoint_path={models}", "test_nepisode=1", "save_replay=True")
    assert main.main([*IQL, f"--local_results_path={tmp_path}", *params]) == 0
    said = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": /" in line)
    assert Path(said["replays"]).is_relative_to(tmp_path / "replays")
    names = sorted(path.name.partition(".")[2] for path in Path(said["replays"]).iterdir())
    assert names == ["sim.gif", "sim.json.gz"]
    film = tmp_path / "film.gif"
    replay = next(Path(said["replays"]).glob("*.json.gz"))
    shown = subprocess.run(
        [sys.executable, "-m", "envs.sc2.sim.render", str(replay), str(film), "--size=160"],
        cwd=MAIN.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0 and film.is_file(), shown.stderr


@pytest.mark.slow
def test_the_record_holds_what_really_ran(runs):
    _, config, *_ = runs("iql", is_process=True)
    resolved = config["resolved"]
    assert resolved["engine"] in ("sim", "game") and resolved["device"] in ("cpu", "cuda")
    assert (resolved["device"] == "cuda") is config["use_cuda"]
    assert {"torch", "numpy", "numba", "sacred"} <= resolved["packages"].keys()
    assert resolved["packages"]["torch"].startswith("2.13.0")
    assert resolved["commit"] is None or len(resolved["commit"].removesuffix("-dirty")) == 40
    assert config["seed"] == config["env_args"]["seed"] == 1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(runs):
    """In a process of its own and in this one, after other tests, with the algorithm that draws most."""
    info, again, other = (
        runs("iql_omg", seed, is_process)[3] for seed, is_process in ((1, False), (1, True), (2, False))
    )
    assert info == again
    assert info["return_mean"] != other["return_mean"]


def test_a_seed_that_is_not_given_is_drawn_and_recorded(monkeypatch):
    config, _, _ = configured()
    first, second = (main.resolve(config)["seed"] for _ in range(2))
    assert first != second and main.resolve(config)["env_args"]["seed"] is not None
    assert config["seed"] is None


def test_a_test_of_fewer_episodes_than_asked_for_is_told(capsys):
    config, _, _ = configured("--test_nepisode=20", "--runner=parallel", "--batch_size_run=8")
    assert main.resolve(config)["test_nepisode"] == 16
    assert "test_nepisode=20 becomes 16: 8 episodes are played at once" in capsys.readouterr().err


@pytest.mark.slow
def test_a_recorded_run_can_be_done_again_from_its_record(runs):
    _, config, *_ = runs("iql", is_process=True)
    records = Path(config["local_results_path"]) / "sacred" / "1" / "config.json"
    again, _, _ = main._configure(main._experiment(), [*IQL, "with", str(records)])
    assert again == {key: value for key, value in config.items() if key != "resolved"}


def test_a_mistake_found_by_the_run_is_one_sentence_and_a_failed_record(tmp_path, capfd):
    params = (f"--local_results_path={tmp_path}", f"--checkpoint_path={tmp_path / 'nowhere'}", *SHORT_RUN)
    assert main.main([*IQL, *params]) == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: ") and "nowhere" in said.splitlines()[-1]
    assert json.loads((tmp_path / "sacred" / "1" / "run.json").read_text())["status"] == "FAILED"


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_is_saved_has_its_record_marked_and_ends_by_the_signal(tmp_path, sent):
    log = tmp_path / "log.txt"
    params = (*IQL, f"--local_results_path={tmp_path}", *SHORT_RUN, "t_max=100000000")
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(MAIN), *params],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # as if the tests had no nohup
        )
        deadline = time.monotonic() + 300
        while "Recent Stats" not in log.read_text() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        for _ in range(3 if sent == signal.SIGHUP else 1):  # a terminal that closes hangs up several times
            os.kill(process.pid, sent)
        status = process.wait(timeout=120)
    assert status == -sent, log.read_text()
    assert log.read_text().splitlines()[-1] == "interrupted" and "Traceback" not in log.read_text()
    checkpoint = max(tmp_path.glob("models/*/*"), key=lambda path: int(path.name))
    assert {"agent.th", "opt.th", "state.th", "buffer.th"} <= {path.name for path in checkpoint.iterdir()}
    assert json.loads((tmp_path / "sacred" / "1" / "run.json").read_text())["status"] == "INTERRUPTED"


TINY_RUN = ("--t_max=100", "--test_interval=50", "--use_tensorboard=False")


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["2>&1 | true", "> /dev/full 2>&1", ">&- 2>&-"])
def test_a_run_goes_on_and_is_recorded_where_nobody_takes_its_output(tmp_path, lost):
    words = [sys.executable, str(MAIN), "--config=iql", "--env-config=goal_game", *TINY_RUN]
    words.append(f"--local_results_path={tmp_path}")
    line = f"{shlex.join(words)} {lost}; exit ${{PIPESTATUS[0]}}"
    finished = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=300)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    records = tmp_path / "sacred" / "1"
    assert json.loads((records / "run.json").read_text())["status"] == "COMPLETED"
    assert "Beginning training" in (records / "cout.txt").read_text()


def test_help_into_a_pipe_that_closes_is_silent():
    line = f"{sys.executable} {MAIN} --help | true; exit ${{PIPESTATUS[0]}}"
    finished = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.slow
def test_a_run_may_be_started_from_any_thread(tmp_path):
    statuses = []
    params = ["--config=iql", "--env-config=goal_game", *TINY_RUN, f"--local_results_path={tmp_path}"]
    thread = threading.Thread(target=lambda: statuses.append(main.main(params)))
    thread.start()
    thread.join()
    assert statuses == [0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("from_stdin", "fragments"), [(False, ("script.py is run again", "__main__")), (True, ("script in a file",))]
)
def test_a_script_that_workers_must_not_or_can_not_run_again_is_told_so_once(tmp_path, from_stdin, fragments):
    params = ["--config=iql", "--env-config=lbforaging", *TINY_RUN, f"--local_results_path={tmp_path}"]
    params += ["--runner=parallel", "--batch_size_run=2"]
    script = tmp_path / "script.py"
    lines = ("import sys", f"sys.path.insert(0, {str(MAIN.parent)!r})", "import main", f"sys.exit(main.main({params}))")
    script.write_text("\n".join(lines))
    with script.open() as stdin:
        command = [sys.executable, "-" if from_stdin else str(script)]
        finished = subprocess.run(command, stdin=stdin, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 2 and finished.stderr.count("error: ") == 1 and "Traceback" not in finished.stderr
    for fragment in fragments:
        assert fragment in finished.stderr.splitlines()[-1]
    assert sorted(path.name for path in (tmp_path / "sacred").iterdir()) == ["1", "_sources"]


@pytest.mark.slow
def test_unobserved_runs_leave_no_record(tmp_path):
    assert main.main([*IQL, "--unobserved", f"--local_results_path={tmp_path}", *SHORT_RUN]) == 0
    assert not (tmp_path / "sacred").exists()


# --- the project's own files


def test_every_shipped_yaml_is_plain_yaml_for_other_readers():
    for path in main.CONFIG.rglob("*.yaml"):
        assert load_yaml(path) == yaml.safe_load(path.read_text())
