"""The driver: one loop, clock, budget, checkpoint and record for every method."""
