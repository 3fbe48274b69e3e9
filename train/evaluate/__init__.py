"""Evaluation: scores, robustness, alarms and fairness of a model, beside trivial systems."""
