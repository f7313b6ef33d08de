"""Directions: curves t ↦ s(t) that a method may follow from θ, built from one linearisation."""
