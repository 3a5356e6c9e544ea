"""What an application says, as the two numbers that the model was trained with."""

from datetime import date
from typing import Literal, TypedDict

RATES = {"EUR": 1.0, "CHF": 1.05, "USD": 0.92}


class Application(TypedDict):
    born: date
    applied: date
    income: float
    currency: Literal["EUR", "CHF", "USD"]


def transform(rows: list[Application]) -> list[dict[str, float]]:
    return [{"age": age(row), "income": row["income"] * RATES[row["currency"]]} for row in rows]


def age(row: Application) -> float:
    if row["born"] > row["applied"]:
        raise ValueError(f"born on {row['born']}, and applied on {row['applied']}")
    return (row["applied"] - row["born"]).days / 365.25
