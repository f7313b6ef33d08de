"""The end of a chain: from a direction to a move, with decoupled weight decay (Loshchilov & Hutter 2019, ICLR)."""

from __future__ import annotations

from typing import Any

import optax


def descent(learning_rate: Any, weight_decay: Any) -> list[optax.GradientTransformation]:
    """−α (direction + λθ), for the end of `optax.chain`. A number λ = 0 is left out, and `params` are not needed then.

    `learning_rate` α may be a schedule.
    """
    absent = isinstance(weight_decay, (int, float)) and weight_decay == 0
    decayed = [] if absent else [optax.add_decayed_weights(weight_decay)]
    return [*decayed, optax.scale_by_learning_rate(learning_rate)]
