"""How close the embedded engine is to StarCraft II, by the game's own word: recorded battles and trained policies."""
