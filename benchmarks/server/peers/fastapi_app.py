"""The app of many tutorials: pydantic rows, `def` endpoints, default settings."""

import os
from pathlib import Path

import joblib
from fastapi import FastAPI
from pydantic import create_model

MODELS = Path(os.environ["MODELS"])
app = FastAPI()


def add(name: str, count: int) -> None:
    model = joblib.load(MODELS / name / "model.joblib")
    row_type = create_model("Row", **{f"x{index}": (float, ...) for index in range(count)})

    def predict(rows: list[row_type]):  # type: ignore[valid-type]
        table = [list(row.model_dump().values()) for row in rows]
        return {"predictions": model.predict(table).tolist()}

    app.post(f"/{name}")(predict)


add("iris", 4)
add("forest", 20)


@app.get("/health")
def health():
    return {"ok": True}
