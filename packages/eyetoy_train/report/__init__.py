"""The report of a run, and the card of its model."""
