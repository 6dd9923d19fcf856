"""Contenders that cheat, each beside an honest twin that does the nearest legitimate thing: what ``aieng-bench redteam`` runs."""
