"""A decision from the probability that the model gives."""

import numpy as np


def transform(outputs):
    risk = outputs["probabilities"][:, 1]
    return {
        "decision": np.select([risk < 0.2, risk < 0.5], ["approve", "review"], "decline"),
        "risk": risk.astype(float).round(3),
    }
