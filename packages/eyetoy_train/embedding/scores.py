"""What the vectors of a labelled folder are worth: accuracy of their nearest neighbours, and of a linear probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyetoy_train.embedding.neighbours import Mask, nearest
from eyetoy_train.embedding.vectors import Row, VectorFile

MOST_PROBED = 20_000
"""Vectors that a linear probe learns from, chosen evenly: they are in memory together."""
CHUNK = 8192


def scores(vectors: VectorFile, rows: Sequence[Row], k: int, *, has_splits: bool) -> dict[str, Any]:
    """Return the accuracy of the `k` nearest neighbours' vote and of a linear probe, with what they are measured on.

    With split folders, the test files (those for validation if there are none) are judged by the training files.
    Without, the neighbours of each file are looked for among all others, and the probe is scored on the files that
    training would hold out.

    Args:
        vectors: of the rows.
        rows: of the table; those without a label are left out.
        k: number of neighbours that vote.
        has_splits: whether the folder has split folders.
    """
    names = sorted({row.label for row in rows if row.label})
    places = {name: place for place, name in enumerate(names)}
    labels = np.array([places.get(row.label, -1) for row in rows])
    if len(names) < 2:
        return {}
    judged = "test" if any(row.split == "test" for row in rows) else "val"
    learned, held_out = (np.array([row.split == split for row in rows]) & (labels >= 0) for split in ("train", judged))
    kind = f"of {judged}" if has_splits else "that training would hold out"
    scored = f"scored on {int(held_out.sum()):,} files {kind}"
    found: dict[str, Any] = {"classes": len(names)}
    if has_splits:
        found["knn"] = _vote(vectors, labels, k, held_out, learned)
        found["knn"]["protocol"] = f"neighbours among {int(learned.sum()):,} files of train, {scored}"
    else:
        labelled = labels >= 0
        found["knn"] = _vote(vectors, labels, k, labelled, labelled)
        found["knn"]["protocol"] = f"leave one out of {int(labelled.sum()):,} files"
    if len(set(labels[learned])) > 1 and held_out.any():
        accuracy, count = _probe(vectors, labels, learned, held_out)
        found["linear_probe"] = {"accuracy": accuracy, "protocol": f"learned from {count:,} files, {scored}"}
    return found


def _vote(vectors: VectorFile, labels: NDArray[np.int64], k: int, asking: Mask, asked: Mask) -> dict[str, Any]:
    """Return the accuracy of the vote of neighbours. Of classes with as many votes, the more similar one wins."""
    right = total = 0
    for chunk in nearest(vectors, k, asking=asking, asked=asked):
        votes = np.zeros((len(chunk.asking), labels.max() + 1))
        row = np.arange(len(chunk.asking))[:, None]
        # A vote counts 1, and a similarity far less, so that it decides between equal numbers alone.
        np.add.at(votes, (row, labels[chunk.places]), 1 + chunk.similarity * (0.1 / k))
        right += int((votes.argmax(1) == labels[chunk.asking]).sum())
        total += len(chunk.asking)
    return {"k": k, "accuracy": right / total if total else None}


def _probe(vectors: VectorFile, labels: NDArray[np.int64], learned: Mask, held_out: Mask) -> tuple[float, int]:
    """Return the accuracy of logistic regression on standardised vectors, and of how many it learned."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    places = np.flatnonzero(learned)
    if len(places) > MOST_PROBED:
        places = places[np.linspace(0, len(places) - 1, MOST_PROBED).astype(int)]
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    probe.fit(_gathered(vectors, places), labels[places])
    right = 0
    for start in range(0, vectors.num_rows, CHUNK):
        kept = np.flatnonzero(held_out[start : start + CHUNK])
        if len(kept):
            guessed = probe.predict(vectors.read(start, start + CHUNK)[kept])
            right += int((guessed == labels[start + kept]).sum())
    return right / int(held_out.sum()), len(places)


def _gathered(vectors: VectorFile, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return some rows, `[places, channels]`."""
    found = np.empty((len(places), vectors.num_channels), np.float32)
    for start in range(0, vectors.num_rows, CHUNK):
        first, last = np.searchsorted(places, (start, start + CHUNK))
        if last > first:
            found[first:last] = vectors.read(start, start + CHUNK)[places[first:last] - start]
    return found
