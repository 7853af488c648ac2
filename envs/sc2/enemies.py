"""Who may play the enemy's side, by name: `env_args.enemy` and `env_args.test_enemies`. `sim/enemies.py` has them play.

Nothing here compiles or imports a network, so that a mistake is answered at once.
"""

from collections.abc import Sequence
from pathlib import Path

from envs.multiagentenv import POLICY, SELF, as_word
from utils.dict2namedtuple import Config
from utils.errors import UserError, shortened, unknown
from utils.registry import Registry

BOT, SCRIPT = "bot", "script:"
SCRIPTS = Registry(
    "script",
    nearest="envs.sc2.sim.scripts:nearest",
    weakest="envs.sc2.sim.scripts:weakest",
    focus="envs.sc2.sim.scripts:focus",
    kite="envs.sc2.sim.scripts:kite",
    hold="envs.sc2.sim.scripts:hold",
    spread="envs.sc2.sim.scripts:spread",
)
"""The scripts by name; `sim/scripts.py` says what a function must be to stand here."""
ALLOWED = "bot, script:NAME, policy:FOLDER or self"


def read_enemies(value: str | Sequence[str], key: str = "enemy") -> tuple[str, ...]:
    """Returns the enemies that `env_args.<key>` names, one or several; none for an empty list.

    Raises: UserError where one of them is no enemy, an unknown script, a folder that is not there, or named twice.
    """
    names = (value,) if isinstance(value, str) else tuple(value)
    for name in names:
        if name in (BOT, SELF):
            continue
        if name.startswith(SCRIPT):
            script = name.removeprefix(SCRIPT)
            if script not in SCRIPTS:
                raise UserError(f"env_args.{key}: {unknown('script', script, SCRIPTS)}")
        elif name.startswith(POLICY):
            if not Path(name.removeprefix(POLICY)).is_dir():
                raise UserError(
                    f"env_args.{key}={shortened(name)}: there is no such folder; give that of a checkpoint, which a "
                    "run with save_model=True wrote, named by its step"
                )
        else:
            raise UserError(f"env_args.{key}={shortened(name)} is no enemy; it must be {ALLOWED}, or a list of these")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"env_args.{key} has {shortened(twice)} twice; name each enemy once")
    return names


def check_enemies(enemy: str | Sequence[str] = BOT, test_enemies: Sequence[str] | None = None) -> tuple[str, ...]:
    """Returns all enemies of these two arguments that are no bot; `test_enemies` may be left open.

    Raises: UserError as `read_enemies`, or where `enemy` is an empty list.
    """
    names = read_enemies(enemy)
    if not names:
        raise UserError(f"env_args.enemy is an empty list; it must be {ALLOWED}, or a list of these")
    several = dict.fromkeys((*names, *read_enemies(test_enemies or (), "test_enemies")))
    words: dict[str, str] = {}
    for name in several:
        if (other := words.setdefault(as_word(name), name)) != name:
            raise UserError(f"env_args.enemy: statistics of {other} and {name} would have one name; rename a folder")
    return tuple(name for name in several if name != BOT)


def conflict(config: Config) -> str:
    """Returns a sentence about enemies that can't be with the run's other keys, or nothing."""
    enemy, test_enemies = config["env_args.enemy"], config["env_args.test_enemies"] or []
    enemies = enemy if isinstance(enemy, list) else [enemy]
    if config["population"] and SELF in (*enemies, *test_enemies):
        return (
            "env_args.enemy=self has a policy play against its own copies, but --config names a population of "
            "several; train one algorithm, such as --config=qmix"
        )
    key, tested = ("test_enemies", test_enemies) if test_enemies else ("enemy", enemies)
    if config["test_nepisode"] < len(tested):
        return (
            f"test_nepisode={config['test_nepisode']} is fewer than the {len(tested)} env_args.{key}, so that tests "
            "would not meet all; raise test_nepisode"
        )
    return ""
