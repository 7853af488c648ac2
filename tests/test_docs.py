"""The documentation: every command is taken by its program, every Python block runs, every link leads somewhere."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import main
from config.layers import known_names
from experiments import pool
from experiments.executors import OPTIONS as EXECUTOR_OPTIONS

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
        source = Path(importlib.util.find_spec(words[1]).origin)
        source = source.with_name("__main__.py") if source.name == "__init__.py" else source
        unknown = [word for word in words[2:] if word.startswith("--") and not is_option(word, source)]
        assert not unknown, f"{words[1]} has no {unknown}"
    elif program == "pip":
        for word in words:
            assert not word.endswith(".txt") or (ROOT / word).is_file()
    else:
        assert program in OF_OTHERS, f"what is {program}?"


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
    return main.main([*kept, *([] if "with" in words else ["with"]), *short, f"local_results_path={folder}"])


def train_first(words, folder):
    """Saves weights as a page assumes that there are; returns the folder of the run."""
    assert run_shortened([*words, "save_model=True"], folder) == 0
    return max(folder.glob("models/*"), key=lambda path: path.stat().st_mtime)


def last_step(model):
    return max(model.iterdir(), key=lambda step: int(step.name))


@pytest.mark.slow
@pytest.mark.parametrize("command", SHOWN)
def test_a_training_that_is_shown_runs(command, tmp_path, monkeypatch):
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
        words = [word.replace(MODEL, str(train_first(new, tmp_path))) for word in words]
    if "pools/mine" in command or SECOND in command:
        map_name = [word for word in words if "map_name" in word]
        model = train_first(["--config=iql", "--env-config=sc2", "with", *map_name], tmp_path / "first")
        shutil.copytree(last_step(model), "pools/mine/iql")
    if SECOND in command:
        of_pool = [word.replace(SECOND, "pools/mine") for word in words]
        words = [word.replace(SECOND, str(last_step(train_first(of_pool, tmp_path / "second")))) for word in words]
    if "pools/train" in command:
        small = ("--t_max=60", "--set", "rnn_hidden_dim=8", "batch_size=2")
        assert pool.main(["pools/train", "--algs=qmix", "--seeds=1", *small]) == 0
        words = [word.replace("non_homologue", "homologue") for word in words]  # seven members would take long
    assert run_shortened(words, tmp_path / "shown") == 0
    assert "print_config" in words or list(tmp_path.glob("shown/sacred/*/metrics.jsonl"))


def is_option(word, source):
    """Whether a file, or one beside or below it, names the option."""
    option = word.partition("=")[0]
    if option.removeprefix("--") in EXECUTOR_OPTIONS:
        return True
    return any(f'"{option}"' in path.read_text(encoding="utf-8") for path in (source, *source.parent.rglob("*.py")))


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
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert finished.returncode == 0, finished.stderr


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
