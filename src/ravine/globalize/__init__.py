"""Globalizations: how far to go along a direction, decided by evaluating the true objective."""
