"""StarCraft micromanagement: picks the engine that plays it. `sim/` is the embedded one; `game.py` brings the game.

`engine: auto` takes the game where it is installed and else the embedded engine; neither is imported early.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envs.multiagentenv import MultiAgentEnv, VectorEnv, WorkerLimits
from utils.errors import UserError

ENGINES = ("auto", "game", "sim")


def resolve_engine(engine: str, **env_args: Any) -> str:
    """Which engine this choice means on this machine, for these `env_args`: "game" or "sim".

    Raises: UserError where the choice is unknown or cannot be had.
    """
    if engine not in ENGINES:
        raise UserError(f"env_args.engine is {engine!r}; it must be one of {', '.join(ENGINES)}")
    if engine == "sim":
        return "sim"
    from envs.sc2 import game

    try:
        game.check(**env_args)
    except game.NotInstalled:
        if engine == "auto":
            return "sim"
        raise
    return "game"


class StarCraft2Env:
    """The registry's entry: makes the environment of the resolved engine."""

    def __new__(cls, engine: str = "auto", **env_args: Any) -> MultiAgentEnv:  # type: ignore[misc]
        return _environment_class(resolve_engine(engine, **env_args))(**env_args)

    @staticmethod
    def resolve(engine: str = "auto", **env_args: Any) -> str:
        return resolve_engine(engine, **env_args)

    @staticmethod
    def describe(engine: str = "auto", **env_args: Any) -> dict[str, Any]:
        if resolve_engine(engine, **env_args) == "sim":
            return {}
        from envs.sc2 import game

        return {"game": game.describe(**env_args)}

    @staticmethod
    def vector(
        seeds: Sequence[int],
        engine: str = "auto",
        *,
        workers: WorkerLimits | None = None,
        parallel: bool = True,
        **env_args: Any,
    ) -> VectorEnv:
        """As `MultiAgentEnv.vector`; the embedded engine plays all worlds in this process."""
        engine = resolve_engine(engine, **env_args)
        if engine == "game":
            return _environment_class(engine).vector(seeds, workers=workers, parallel=parallel, **env_args)
        return _environment_class(engine).vector(seeds, **env_args)


def _environment_class(engine: str) -> type[MultiAgentEnv]:
    if engine == "game":
        from envs.sc2.game import StarCraft2Env as Game

        return Game
    from envs.sc2.sim.smac import StarCraft2Env as Embedded

    return Embedded
