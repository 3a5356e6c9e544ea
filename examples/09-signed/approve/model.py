"""Approves whoever earns four times what the loan costs a month."""

import numpy as np


def load_model(path):
    return 4.0


def predict(model, inputs):
    income, instalment = inputs.T
    return np.where(income >= model * instalment, "approve", "refer")
