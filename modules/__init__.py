"""Networks, and nothing but torch: agents, mixers, critics, and agent models (am)."""
