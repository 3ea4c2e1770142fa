"""Kron-OBD and Kron-OBS: what the loss rises by without a filter, by the Kronecker-factored Fisher.

Criteria for `ptkeras.prune`, which has them from `ptkeras.importance`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from ptkeras.channels import ChannelMap, Slice
from ptkeras.fisher.patches import channels_last
from ptkeras.fisher.taps import number_of_examples, taps
from ptkeras.keras_compat.layers import BaseConv, BaseConvTranspose

_KINDS = (keras.layers.Dense, BaseConv, BaseConvTranspose)
# What is added to the diagonal of S before it is inverted, as a part of its mean.
DAMPING = 1e-3


def kron_obd(
    x: Any, loss: Any = None, *, batch_size: int = 32, seed: int = 0
) -> Callable[[ChannelMap], np.ndarray]:
    """Kron-OBD: the second-order rise of the loss if a filter is zero and the others stay.

        score(c) = Σ 1/2 S[c, c] · θ_cᵀ A θ_c    over the layers that make the channel c

    with A and S the Kronecker factors of the Fisher information of a layer, its targets drawn from
    the model's own predictive distribution, and θ_c the weights of the filter, bias included
    (Wang et al., ICML 2019, arXiv 1905.05934, section 3: C-OBD by K-FAC). Here θ_cᵀ A θ_c is
    measured as what it is, the mean square of what the filter makes ahead of the activation, so
    that no A is kept, however large it would be.

    ```python
    ptkeras.prune(model, 0.5, criterion=ptkeras.importance.kron_obd(x[:2000]))
    ```

    Args:
        x: examples, as the model takes them: an array, or a list or dict of arrays.
        loss: what the outputs predict, see `ptkeras.fisher.factors`. None takes the loss that the
            model is compiled with.
        batch_size: the number of examples in a mini-batch.
        seed: of the generator that targets are drawn with.

    Returns:
        The criterion, a function of a `ChannelMap`; it raises a ValueError where
        `ptkeras.fisher.factors` would. Channels that no convolution or dense layer makes get an
        infinite score, and stay.
    """

    def damage(filters: _Filters) -> np.ndarray:
        return 0.5 * np.diag(filters.gradients) * filters.squares

    return _criterion(damage, x, loss, batch_size, seed)


def kron_obs(
    x: Any, loss: Any = None, *, batch_size: int = 32, seed: int = 0
) -> Callable[[ChannelMap], np.ndarray]:
    """Kron-OBS: the second-order rise of the loss if a filter is zero and others make up for it.

        score(c) = Σ 1/2 θ_cᵀ A θ_c / (S⁻¹)[c, c]    over the layers that make the channel c

    as in `kron_obd` (Wang et al., ICML 2019, arXiv 1905.05934, section 3: C-OBS by K-FAC). To S a
    thousandth of its mean diagonal is added before it is inverted.

    The score alone: a criterion changes no weights, and so the other filters do not make up for it
    here as they do in the paper, by -S⁻¹[:, c] θ_cᵀ / (S⁻¹)[c, c]. Fine-tuning has to.

    ```python
    ptkeras.prune(model, 0.5, criterion=ptkeras.importance.kron_obs(x[:2000]))
    ```

    Args:
        x: examples, as the model takes them: an array, or a list or dict of arrays.
        loss: what the outputs predict, see `ptkeras.fisher.factors`. None takes the loss that the
            model is compiled with.
        batch_size: the number of examples in a mini-batch.
        seed: of the generator that targets are drawn with.

    Returns:
        The criterion, as that of `kron_obd`.
    """

    def damage(filters: _Filters) -> np.ndarray:
        mean = np.trace(filters.gradients) / len(filters.squares)
        if mean == 0:
            return np.zeros(len(filters.squares))
        damped = filters.gradients + DAMPING * mean * np.eye(len(filters.squares))
        return 0.5 * filters.squares / np.diag(np.linalg.inv(damped))

    return _criterion(damage, x, loss, batch_size, seed)


class _Filters(NamedTuple):
    """What is known of the filters of one layer.

    Attributes:
        gradients: S.
        squares: the mean square of what each filter makes.
    """

    gradients: np.ndarray
    squares: np.ndarray


def _criterion(
    damage: Callable[[_Filters], np.ndarray], x: Any, loss: Any, batch_size: int, seed: int
) -> Callable[[ChannelMap], np.ndarray]:
    def criterion(channel_map: ChannelMap) -> np.ndarray:
        rows = {id(r.layer): r for r in channel_map.slices if _makes_filters(r)}
        scores = np.zeros(len(channel_map))
        present = np.zeros(len(channel_map), bool)
        layers = [row.layer for row in rows.values()]
        measured = _measure(channel_map.model, layers, x, loss, batch_size, seed)
        for key, filters in measured.items():
            channels = rows[key].channels
            scores += np.bincount(channels, damage(filters), len(scores))
            present[channels] = True
        return np.where(present, scores, np.inf)

    return criterion


def _makes_filters(row: Slice) -> bool:
    return row.role == "output" and isinstance(row.layer, _KINDS)


def _measure(
    model: keras.Model, layers: list[Any], x: Any, loss: Any, batch_size: int, seed: int
) -> dict[int, _Filters]:
    """The filters of each layer that is called, by its `id`."""
    size = number_of_examples(x)
    sums: dict[int, list[Any]] = {}
    for batch in taps(model, layers, x, loss=loss, batch_size=batch_size, seed=seed):
        for tap in batch:
            made = channels_last(tap.layer, tap.outputs)
            made = made.reshape(-1, made.shape[-1])
            slopes = channels_last(tap.layer, tap.gradients).reshape(made.shape)
            found = sums.setdefault(id(tap.layer), [0.0, 0.0, 0])
            found[0] += slopes.T.astype("float64") @ slopes / size
            found[1] += np.square(made, dtype="float64").sum(0)
            found[2] += len(made)
    return {key: _Filters(s, squares / count) for key, (s, squares, count) in sums.items()}
