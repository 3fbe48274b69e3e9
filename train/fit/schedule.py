"""Schedules of a training run: the learning rate, and the decay of the running average of the weights."""

from __future__ import annotations

import math

from edge_sser.train.recipe import Optimisation


def average_decay(average: float, steps: int) -> float:
    """Returns the decay of the running average of the weights in a step, 0..1.

    The first steps forget the initial weights quickly (the schedule of TensorFlow's ExponentialMovingAverage): with the
    full decay of .995, initial weights would be 61 % of the average after 100 steps.

    Args:
        average: decay of the recipe.
        steps: done before this one.
    """
    return min(average, (1.0 + steps) / (10.0 + steps))


def learning_rate(settings: Optimisation, progress: float) -> float:
    """Returns the learning rate at a progress of 0..1: a cosine with linear warm-up."""
    if progress < settings.warmup:
        return settings.learning_rate * (progress + 1e-3) / (settings.warmup + 1e-3)
    rest = (progress - settings.warmup) / (1.0 - settings.warmup)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * rest))
