"""How close the embedded engine is to StarCraft II, by the game's own word: recorded steps, replays, trained policies."""
