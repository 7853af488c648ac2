"""Networks: agents, mixers, critics, and agent models (am)."""
