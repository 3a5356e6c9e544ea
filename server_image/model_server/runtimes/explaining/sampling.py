"""Shapley values estimated by sampling permutations: for any model whose package has a reference profile.

A draw takes a row of the reference and an order of the features, and replaces the reference's values by those of the
explained row in this order, and then in the reverse one; what the answer changes at a feature is its contribution. The
mean over the draws is the estimate, their spread its standard error. All rows are explained by the same draws, so that
they have one base value. https://www.sciencedirect.com/science/article/pii/S0305054808000804 (Castro et al.),
https://jmlr.org/papers/v23/21-0439.html (Mitchell et al., antithetic permutations)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from model_server.domain.explanations import Explanation, ExplanationKind, NotExplainable, Scale
from model_server.domain.model import InputAdapter, Model
from model_server.domain.tensors import Array, Inputs, rows_of
from model_server.runtimes.explaining.direct import as_scores
from model_server.runtimes.explaining.estimators import rows_from
from model_server.runtimes.explaining.reference import SEED, Reference

#: Below this a standard error says little.
FEWEST_DRAWS = 8
MOST_DRAWS = 1_000
_NO_NUMBERS = "it answers with text or whole numbers, which are classes, and gives neither probabilities nor scores"
#: Rows of one call of the model: predictions wait no longer than for it.
CALL_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledExplainer:
    """Explains by the model's answers to mixtures of rows. `orders` are permutations, shape (draws, features)."""

    kind: ExplanationKind
    score: Callable[[Inputs], Array]
    reference_rows: Callable[[int], Inputs | None]
    background: Inputs
    orders: Array
    #: The answers to the background, shape (draws, outputs).
    answers: Array
    calls_model: bool = True

    def steps(self, inputs: Inputs) -> Iterator[Explanation | None]:
        """Explain all rows, a call of the model in a step."""
        draws, count = self.orders.shape
        masks = _masks(self.orders)
        found: list[tuple[Array, Array, Array]] = []
        for row in range(rows_of(inputs)):
            one = {name: array[row : row + 1] for name, array in inputs.items()}
            output = self.score({name: array.copy() for name, array in one.items()})[0]
            answers = []
            for start in range(0, len(masks), CALL_ROWS):
                places = np.arange(start, min(start + CALL_ROWS, len(masks)))
                # Each draw has as many mixtures, one draw behind the other.
                draw = places // max(len(masks) // draws, 1)
                answers.append(self.score(_mixed(one, self.background, draw, masks[places])))
                yield None
            inner = np.concatenate(answers) if answers else np.empty((0, len(output)))
            changes = self._changes(inner.reshape(draws, 2, count - 1, len(output)), output)
            found.append((changes.mean(axis=0), changes.std(axis=0, ddof=1) / np.sqrt(draws), output))
            yield None
        contributions, errors, outputs = (np.stack(each) for each in zip(*found, strict=True))
        yield Explanation(
            base=self.answers.mean(axis=0),
            contributions=np.moveaxis(contributions, 1, 2),
            output=outputs,
            errors=np.moveaxis(errors, 1, 2),
        )

    def _changes(self, inner: Array, output: Array) -> Array:
        """What the answer changes at each feature, shape (draws, features, outputs)."""
        draws, count = self.orders.shape
        changes = np.zeros((draws, count, len(output)))
        first = self.answers[:, None]
        last = np.broadcast_to(output, (draws, 1, len(output)))
        each = np.arange(draws)[:, None]
        for way, order in ((0, self.orders), (1, self.orders[:, ::-1])):
            path = np.concatenate([first, inner[:, way], last], axis=1)
            changes[each, order] += np.diff(path, axis=1) / 2
        return changes


def sampled(
    model: Model, adapter: InputAdapter, reference: Reference, *, budget: int, declared_classes: Sequence[object]
) -> SampledExplainer:
    """The explainer that spends at most `budget` rows of the model on one. Raises NotExplainable."""
    count = len(adapter.features)
    draws = min(budget // max(2 * (count - 1), 1), MOST_DRAWS)
    if draws < FEWEST_DRAWS:
        raise NotExplainable(
            f"{count} features need {2 * (count - 1) * FEWEST_DRAWS} rows of the model for an estimate, and the budget "
            f"is {budget}: raise MODEL_SERVER_EXPLANATION_BUDGET"
        )
    score, scale, classes = _score(model, declared_classes)
    rng = np.random.default_rng(SEED + 1)
    rows = rows_from(reference, adapter)
    background = rows(draws)
    assert background is not None  # noqa: S101 - there is a reference
    return SampledExplainer(
        kind=ExplanationKind(method="permutation sampling", scale=scale, classes=classes),
        score=score,
        reference_rows=rows,
        background=background,
        orders=np.stack([rng.permutation(count) for _ in range(draws)]),
        answers=score({name: array.copy() for name, array in background.items()}),
    )


def _score(
    model: Model, declared_classes: Sequence[object]
) -> tuple[Callable[[Inputs], Array], Scale, tuple[object, ...]]:
    """The numbers to explain, their scale and the classes that they are about. Raises NotExplainable."""
    name = model.probability_output or getattr(model, "score_output", "")
    classes = tuple(model.classes)
    if not name and (classes or declared_classes):
        raise NotExplainable(_NO_NUMBERS)
    skipped = 1 if model.probability_output and len(classes) == 2 else 0

    def score(inputs: Inputs) -> Array:
        outputs = model.predict(inputs, probabilities=bool(name))
        array = outputs[name] if name else next(iter(outputs.values()))
        # Whole numbers are taken for classes, as by monitoring.
        if array.dtype.kind != "f":
            raise NotExplainable(_NO_NUMBERS)
        if array.ndim > 2:
            raise NotExplainable(f"its answer to a row has {array.ndim - 1} dimensions, and not one number or a list")
        return as_scores(array)[:, skipped:]

    scale: Scale = "probability" if model.probability_output else "raw score" if name else "prediction"
    return score, scale, classes[1:] if len(classes) == 2 else classes


def _masks(orders: Array) -> Array:
    """Which features of each mixture are the explained row's: prefixes of each order, and of its reverse."""
    count = orders.shape[1]
    ranks = np.argsort(orders, axis=1)
    sizes = np.arange(1, count)[:, None]
    forward = ranks[:, None, :] < sizes
    backward = (count - 1 - ranks)[:, None, :] < sizes
    return np.concatenate([forward, backward], axis=1).reshape(-1, count)


def _mixed(one: Inputs, background: Inputs, draw: Array, masks: Array) -> Inputs:
    """Rows of the background with some values of one row, in arrays of their own."""
    if len(one) == 1 and (array := next(iter(one.values()))).ndim == 2:
        (name,) = one
        return {name: np.where(masks, array, background[name][draw])}
    mixed: dict[str, Array] = {}
    for place, (name, array) in enumerate(one.items()):
        column = background[name][draw]
        if column.dtype != array.dtype and "O" in (column.dtype.kind, array.dtype.kind):
            column = column.astype(object)
        column[masks[:, place]] = array[0]
        mixed[name] = column
    return mixed
