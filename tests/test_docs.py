"""The documentation: every command is taken by its program, every Python block runs, every link leads somewhere."""

import argparse
import importlib
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache

import pytest

import main
from config.layers import known_names
from experiments import pool
from tests.warm import run_program
from utils.command import Answered, Parser

ROOT = main.ROOT
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/**/*.md"))}
PAGES["readme.md"] = (ROOT / "readme.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SHORTER = {r"t_max=\d+": "t_max=130", r"evaluate\(\d+\)": "evaluate(1)"}  # Python blocks
OF_OTHERS = {"git", "wget", "unzip", "mkdir", "cp", "tensorboard", "docker"}
SUFFIXES = (".py", ".md", ".txt", ".yaml", ".toml")


def blocks(page, *languages):
    return [body for language, body in BLOCK.findall(PAGES[page]) if language in languages]


def commands(page):
    """The command lines of a page's shell blocks and of inline code that begins with `python`."""
    inline = re.findall(r"`(python (?:main\.py|-m) [^`]*)`", BLOCK.sub("", PAGES[page]))
    lines = [line for body in blocks(page, "sh") for line in body.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split("  #")[0].split()) for line in (*lines, *inline) if line.strip()]


COMMANDS = sorted({(page, command) for page in PAGES for command in commands(page)})


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_is_one_that_there_is(page, command):
    for part in command.split(" && "):
        check_command(*shlex.split(part))


def check_command(program, *words):
    if program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "python" and words[0] == "main.py" and "--help" in words:
        assert set(words[2:]) <= {*known_names("--config"), *known_names("--env-config")}
    elif program == "python" and words[0] == "main.py":
        main._configure(main._experiment(), list(words[1:]))
    elif program == "python" and words[0] == "-m":
        assert is_parsed(words[1], words[2:])
    elif program == "pip":
        for word in words:
            assert not word.endswith(".txt") or (ROOT / word).is_file()
    else:
        assert program in OF_OTHERS, f"what is {program}?"


def main_of(module):
    """The main function of a program that is started by `python -m`."""
    if module == "envs.sc2.sim.render":
        module = "envs.sc2.sim.film"
    elif importlib.util.find_spec(module).submodule_search_locations:
        module += ".__main__"
    return importlib.import_module(module).main


def is_parsed(module, words):
    """Whether a program's own parser takes the words; nothing else of the program runs."""
    parsed = []

    def parse_args(parser, argv):
        parsed.append(argparse.ArgumentParser.parse_args(parser, argv))
        raise Answered

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parser, "parse_args", parse_args)
        return main_of(module)(list(words)) == 0 and bool(parsed)


def test_a_command_that_a_program_does_not_take_is_noticed(capsys):
    assert not is_parsed("experiments.judge", ["--fights=3"])
    assert "unrecognized arguments: --fights=3" in capsys.readouterr().err


SHORT = (
    *("t_max=60", "test_interval=40", "test_nepisode=3", "batch_size_run=1", "n_threads=1", "rnn_hidden_dim=8"),
    *("save_model_interval=30", "use_tensorboard=False"),
)
ON_POLICY = {"num_mini_batch": 1, "runner": "episode"}
OFF_POLICY = {"batch_size": 1, "buffer_size": 8, "omg_vae_pretrain_steps": 20, "runner": "episode"}
MODEL, SECOND = "results/models/<name>", "results/models/<second_run>/<step>"
SHOWN = sorted({command for _, command in COMMANDS if command.startswith("python main.py") and "--help" not in command})


def run_shortened(words, folder):
    """Exit status of a command of main.py with a short run that writes to this folder."""
    words = [word for word in words if not word.startswith("--mongo_db")]  # tests/test_mongo.py has a database
    config = main.settings(*[word for word in words if word != "print_config"])
    chosen = {key.partition("=")[0] for key in SHORT}
    kept = [word for word in words if word.lstrip("-").partition("=")[0] not in chosen]
    own = ON_POLICY if config.get("learner") in ("ppo_learner", "pqn_learner") else OFF_POLICY
    short = [*SHORT, *(f"{key}={value}" for key, value in own.items() if key in config)]
    if enemies := config["env_args"].get("test_enemies"):
        short.append(f"test_nepisode={len(enemies)}")  # each is met
    return main.main([*kept, *([] if "with" in words else ["with"]), *short, f"local_results_path={folder}"])


@pytest.fixture(scope="module")
def train_first(tmp_path_factory):
    """Saves weights as a page assumes that there are, once for the same words; returns the folder of the models."""

    @cache
    def train(*words):
        folder = tmp_path_factory.mktemp("first")
        assert run_shortened([*words, "save_model=True"], folder) == 0
        (model,) = folder.glob("models/*")
        return model

    return train


def last_step(model):
    return max(model.iterdir(), key=lambda step: int(step.name))


@pytest.mark.slow
@pytest.mark.usefixtures("runs_here")
@pytest.mark.parametrize("command", SHOWN)
def test_a_training_that_is_shown_runs(command, tmp_path, monkeypatch, train_first):
    words = shlex.split(command)[2:]
    for module in ("lbforaging", "rware", "mpe2", "pettingzoo.sisl"):
        if f"={module}" in command:
            pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    for page in PAGES:
        for body in blocks(page, "yaml"):
            if named := re.match(r"# (\w+\.yaml):", body):
                (tmp_path / named[1]).write_text(body)
    if MODEL in command:
        new = [word for word in words if MODEL not in word and not word.startswith(("evaluate", "save_replay"))]
        words = [word.replace(MODEL, str(train_first(*new))) for word in words]
    if "pools/mine" in command or SECOND in command:
        map_name = [word for word in words if "map_name" in word]
        model = train_first("--config=iql", "--env-config=sc2", "with", *map_name)
        shutil.copytree(last_step(model), "pools/mine/iql")
    if SECOND in command:
        of_pool = [word.replace(SECOND, "pools/mine") for word in words]
        words = [word.replace(SECOND, str(last_step(train_first(*of_pool)))) for word in words]
    if "pools/train" in command:
        small = ("--t_max=60", "--set", "rnn_hidden_dim=8", "batch_size=2")
        assert pool.main(["pools/train", "--algs=qmix", "--seeds=1", *small]) == 0
        words = [word.replace("non_homologue", "homologue") for word in words]  # seven members would take long
    assert run_shortened(words, tmp_path / "shown") == 0
    assert "print_config" in words or list(tmp_path.glob("shown/sacred/*/metrics.jsonl"))


TINY = "--set rnn_hidden_dim=8 batch_size=2 buffer_size=8 test_nepisode=2"
# Programs that are run, by the words of their commands that make them short. The others take minutes at their least,
# need what a test has not (a cluster, a database, recordings), or write to reference/; they have tests of their own.
PROGRAMS = {
    "benchmarks.engine": {"--map all": "--map 3m", "$": " --seconds 0.05 --envs 2"},
    "envs.sc2.sim.render": {"$": " --size 160 --every 50"},
    "experiments.ablation": {"iql paper ": "", "1 2 3": "1", r"t_max \d+": "t_max 60", "$": f" {TINY}"},
    "experiments.calibrate": {"$": " --map 3m --battles 2"},
    "experiments.crossplay": {"POOL": "pools/train", r"\d+": "2"},
    "experiments.export_onnx": {},
    "experiments.goal_game": {"$": " --seeds 1 --t_max 60"},
    "experiments.pool": {"1 2 3": "1 2", r"t_max \d+": "t_max 60", "--set": TINY},
    "experiments.report": {"OLD_PYMARL_RESULTS ": "", r"--at \d+": "--at 60", "results/blackbox": "results/sweep"},
    "experiments.subgoals": {"$": " --episodes 1 --fps 50 --size 160"},
    "experiments.sweep": {"vdn ": "", " 8m": "", r"1\.\.10": "1", '--set t_max=\\d+ .*]"': f"{TINY} t_max=60"},
}
CHAINS = [("experiments.pool", "experiments.crossplay"), ("experiments.sweep", "experiments.report")]
CHAINS += [(module,) for module in PROGRAMS if module not in sum(CHAINS, ())]
LEAVES = {
    "envs.sc2.sim.render": "film.gif",
    "experiments.ablation": "results/ablation/3m/*.csv",
    "experiments.crossplay": "results/crossplay/train/matrix.csv",
    "experiments.export_onnx": "agent.onnx",
    "experiments.goal_game": "results/goal_game/curves.csv",
    "experiments.pool": "pools/train/*/member.yaml",
    "experiments.report": "report/report.html",
    "experiments.subgoals": "results/subgoals/**/*.gif",
    "experiments.sweep": "results/sweep/**/metrics.jsonl",
}
STOPS = ("sweep.yaml", "--watch", "ablation --map 3m --seeds 1 2 3")  # a cluster, no end, and all variants


def shown_by(module):
    """The commands of a program that are run."""
    of_module = [command for _, command in COMMANDS if command.split()[:3] == ["python", "-m", module]]
    return [command for command in of_module if not any(word in command for word in STOPS)]


def shortened(command):
    for pattern, shorter in PROGRAMS[command.split()[2]].items():
        command = re.sub(pattern, shorter, command)
    return command


def named_in(command, folder, train_first):
    """What stands for the names in a command: files of a short training, which is tested with a replay."""
    words = ["--config=iql_omg" if "subgoals" in command else "--config=qmix", "--env-config=sc2"]
    model = train_first(*words, "with", "env_args.map_name=3m")
    if "replays" in command:
        settings = ("env_args.map_name=3m", f"checkpoint_path={model}", "save_replay=True")
        assert run_shortened([*words, "with", *settings], folder) == 0
    replays = [*folder.glob("replays/*/*.sim.json.gz"), None]
    return {"results/replays/<name>/<file>.sim.json.gz": replays[0], f"{MODEL}/<step>": last_step(model), MODEL: model}


@pytest.mark.slow
@pytest.mark.usefixtures("runs_here")
@pytest.mark.parametrize("modules", CHAINS, ids=" ".join)
def test_programs_that_are_shown_run(modules, tmp_path, monkeypatch, train_first):
    monkeypatch.chdir(tmp_path)
    assert all(map(shown_by, modules))
    for command in (shortened(command) for module in modules for command in shown_by(module)):
        names = named_in(command, tmp_path / "replayed", train_first) if "<" in command else {}
        for name, file in names.items():
            command = command.replace(name, str(file))
        words = shlex.split(command)
        assert main_of(words[2])(words[3:]) == 0, command
    assert all(list(tmp_path.glob(LEAVES[module])) for module in modules if module in LEAVES)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_the_python_of_a_page_runs(page, tmp_path):
    run_code("\n".join(body for body in blocks(page, "python") if not is_for_absent_package(body)), tmp_path)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    cells = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    run_code("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"), tmp_path)
    assert (tmp_path / "curve.png").is_file()
    assert all(not cell["outputs"] for cell in cells if cell["cell_type"] == "code"), (
        "clear the outputs before a commit"
    )


def run_code(code, folder):
    for pattern, short in SHORTER.items():
        code = re.sub(pattern, short, code)
    status, errors = run_program(code, folder)
    assert status == 0, errors


@pytest.mark.slow
def test_a_page_whose_python_fails_is_seen(tmp_path):
    status, errors = run_program("import main\nraise ValueError('a wrong page')", tmp_path)
    assert status == 1 and "ValueError: a wrong page" in errors


def is_for_absent_package(body):
    needed = re.match(r"# needs (\w+)", body)
    return needed and importlib.util.find_spec(needed[1]) is None


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_that_there_are(page):
    for target in LINK.findall(BLOCK.sub("", PAGES[page])):
        if not target.startswith(("http://", "https://", "#")):
            assert (ROOT / page).parent.joinpath(target.partition("#")[0]).is_file(), target


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_are_there(page):
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    for name in re.findall(rf"`((?:{folders})/[\w/.]+)`", BLOCK.sub("", PAGES[page])):
        if name.endswith(SUFFIXES) and not name.startswith("results/") and name != "config/envs/matrix.yaml":
            assert (ROOT / name).is_file(), name


def test_every_page_is_in_the_table_of_contents_and_the_readme_is_short():
    contents = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(page.removeprefix("docs/") in contents for page in PAGES if page != "readme.md")
    assert len(PAGES["readme.md"].splitlines()) <= 120


@pytest.mark.slow
def test_the_documentation_builds_with_the_keys_of_every_component(tmp_path):
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    page = (tmp_path / "reference" / "config" / "index.html").read_text(encoding="utf-8")
    for key in (*main.RUN, "mixing_embed_dim", "env_args.map_name", "rnn_hidden_dim"):
        assert f"<code>{key}</code>" in page, key
