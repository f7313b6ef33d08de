"""Plans choose and switch methods, on the host, above methods: Stages, Auto, and the spec 'adam:500+lm'."""

from .auto import Auto
from .base import History, Plan
from .parse import as_plan, parse
from .stages import Stages

__all__ = ["Auto", "History", "Plan", "Stages", "as_plan", "parse"]
