"""Optimizers, schedules and the average of the weights."""
