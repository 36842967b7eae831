"""What the feature activations are good for, without a judge: telling the classes apart.

A few thousand held-out samples are cut in two, image by image: one half trains, the other one
tests. The activations that the SAE reads are judged alike, since the SAE can but keep what they
have.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse
from sklearn.feature_selection import f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from wsae_plugin.gamma.consistency import FEWEST, chance
from wsae_plugin.measures.measure import Evidence, HeldOutScore, measure
from wsae_plugin.measures.sums import Found
from wsae_plugin.scores import Direction

N_PROBED = 16
"""Latents that a linear probe reads: few, since all of them together lose little of what the
activations have, whatever each of them stands for."""
_MAX_ITERATIONS = 1000
"""Some ten times what the probes take, of features that are scaled to unit variance."""

Features: TypeAlias = "np.ndarray | sparse.csr_array"
"""Of samples in random order, shape (n, d)."""
Accuracies: TypeAlias = Callable[
    [Features, np.ndarray, int, np.random.Generator], tuple[float | None, float | None]
]
"""(features, labels (n,), how many of them train, generator) → accuracy on the others, and of the
control."""


def nearest_neighbour_accuracy(evidence: Evidence) -> Iterator[HeldOutScore]:
    """How often the most similar sample is of the same class, by latents and by activations.

    The control has the labels of other images.
    """
    yield from _scores(
        evidence,
        nearest_neighbour_accuracies,
        metric="nearest_neighbour_accuracy",
        label="nearest neighbour's class",
        definition="Share of samples that are of the class of the most similar one among others, "
        "by the cosine of their {}.",
        control="the labels of other images",
    )


def linear_probe_accuracy(evidence: Evidence) -> Iterator[HeldOutScore]:
    """How often a linear probe of few latents finds the class, and one of few input dimensions.

    The control reads random ones, so that it stands beside what choosing adds: a probe of permuted
    labels would be at chance, whatever it reads. Of latents that know nothing and classes of uneven
    size, the chosen ones lie some points below random ones.
    """
    yield from _scores(
        evidence,
        linear_probe_accuracies,
        metric="linear_probe_accuracy",
        label=f"linear probe of {N_PROBED}",
        definition=f"Accuracy of a logistic regression on {N_PROBED} {{}}, those that separate the "
        "classes best in an analysis of variance.",
        control=f"{N_PROBED} random ones of those that vary",
    )


def nearest_neighbour_accuracies(
    features: Features, labels: np.ndarray, half: int, _: np.random.Generator
) -> tuple[float, float]:
    """Classify the samples behind the first `half` by the nearest of those, by cosine.

    They are in random order, but those of an image stay together and are alike, so that the control
    gives each the label of the one half of all behind it.
    """

    def accuracy(of: np.ndarray) -> float:
        # Brute force, the only way for a cosine: a product of two halves.
        model = KNeighborsClassifier(n_neighbors=1, metric="cosine", algorithm="brute")
        with warnings.catch_warnings():
            # Very many classes are classes all the same.
            warnings.simplefilter("ignore", UserWarning)
            return float(model.fit(features[:half], of[:half]).score(features[half:], of[half:]))

    return accuracy(labels), accuracy(np.roll(labels, half))


def linear_probe_accuracies(
    features: Features, labels: np.ndarray, half: int, generator: np.random.Generator
) -> tuple[float, float]:
    """Fit a logistic regression to the best features of the first `half` samples, and to random
    ones."""
    train = features[:half]
    varies = np.flatnonzero(np.ravel(_dense(train.max(axis=0)) > _dense(train.min(axis=0))))

    def accuracy(columns: np.ndarray) -> float:
        read = _dense(features[:, columns])
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MAX_ITERATIONS))
        with warnings.catch_warnings():
            # A probe that is still improving is a probe, and so is one of very many classes.
            warnings.simplefilter("ignore", UserWarning)
            model.fit(read[:half], labels[:half])
        return float(model.score(read[half:], labels[half:]))

    if not len(varies):
        nothing = accuracy(np.zeros(1, dtype=int))
        return nothing, nothing
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        # Features that are constant in each class have an infinite ratio of variances.
        warnings.simplefilter("ignore", UserWarning)
        ratios, _ = f_classif(train[:, varies].astype(np.float64), labels[:half])
    # Rounding may leave a variance within classes below 0, and so their ratio far below.
    best = varies[np.argsort(-np.abs(np.nan_to_num(ratios)), kind="stable")[:N_PROBED]]
    return accuracy(best), accuracy(generator.permutation(varies)[:N_PROBED])


def _scores(
    evidence: Evidence,
    accuracies: Accuracies,
    *,
    metric: str,
    label: str,
    definition: str,
    control: str,
) -> Iterator[HeldOutScore]:
    labelled = evidence.labelled
    if labelled is None:
        return
    samples = labelled.samples
    labels, least = samples.labels.numpy(), chance(labelled.latents.class_sizes)
    half = samples.half
    note = (
        f"{half} samples train, {len(labels) - half} test; chance: the largest class's share; "
        f"control: {control}"
    )
    if min(half, len(labels) - half) < FEWEST or len(np.unique(labels[:half])) < 2:
        note = f"{len(labels)} held-out samples with a label: too few, or all of one class"
        accuracies = _too_few
    kinds: tuple[tuple[str, str, Direction, str, Features], ...] = (
        ("", "", "up", "latents", samples.codes),
        ("_of_activations", " of the activations", "none", "dimensions", samples.x.numpy()),
    )
    for suffix, of, direction, noun, features in kinds:
        value, beside = accuracies(features, labels, half, np.random.default_rng(labelled.seed))
        found = Found(value, least, beside, note=note)
        yield from measure(
            f"{label}{of}",
            direction,
            metric=f"{metric}{suffix}",
            definition=definition.format(noun),
        )(lambda _, found=found: found)(evidence)


def _too_few(*_: object) -> tuple[None, None]:
    return None, None


def _dense(array: Any) -> np.ndarray:
    return array.toarray() if sparse.issparse(array) else np.asarray(array)
