"""The formats that come with the server; pyproject.toml registers them, and `runtimes/` loads them."""

from __future__ import annotations

from model_server.package.formats import PYTHON, Format

PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
# What joblib's compressors begin with: zlib, gzip, bz2, xz, lzma, lz4.
COMPRESSED = (
    b"\x78\x01",
    b"\x78\x5e",
    b"\x78\x9c",
    b"\x78\xda",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"\x5d\x00",
    b"\x04\x22\x4d\x18",
)

_RUNTIMES = "model_server.runtimes"

SKLEARN = Format(
    name="sklearn",
    suffixes=(".joblib", ".pkl", ".pickle"),
    runs_code=True,
    begins=PICKLE + COMPRESSED,
    # Compressed data is too common to guess from.
    signatures=PICKLE,
    description="scikit-learn estimators saved with joblib or pickle",
    loader=f"{_RUNTIMES}.sklearn:load",
    mlflow_entry="pickled_model",
    requires="modeldeploy[server-sklearn]",
)
SKOPS = Format(
    name="skops",
    suffixes=(".skops",),
    begins=(b"PK",),
    description="scikit-learn estimators saved with skops, which runs no code",
    loader=f"{_RUNTIMES}.skops:load",
    requires="modeldeploy[server-skops]",
)
XGBOOST = Format(
    name="xgboost",
    suffixes=(".ubj", ".xgb"),
    begins=(b'{"learner"', b"{L"),
    signatures=(b'{"learner"', b"{L"),
    description="XGBoost models saved as JSON or UBJ",
    loader=f"{_RUNTIMES}.xgboost:load",
    mlflow_entry="data",
    requires="modeldeploy[server-xgboost]",
)
LIGHTGBM = Format(
    name="lightgbm",
    suffixes=(".lgb", ".lightgbm"),
    begins=(b"tree\n",),
    signatures=(b"tree\n",),
    description="LightGBM models saved as text",
    loader=f"{_RUNTIMES}.lightgbm:load",
    mlflow_entry="data",
    requires="modeldeploy[server-lightgbm]",
)
CATBOOST = Format(
    name="catboost",
    suffixes=(".cbm", ".cb"),
    begins=(b"CBM1",),
    signatures=(b"CBM1",),
    description="CatBoost models saved in its own format",
    loader=f"{_RUNTIMES}.catboost:load",
    mlflow_entry="data",
    requires="modeldeploy[server-catboost]",
)
ONNX = Format(
    name="onnx",
    suffixes=(".onnx",),
    begins=(b"\x08",),
    description="ONNX graphs",
    loader=f"{_RUNTIMES}.onnx:load",
    mlflow_entry="data",
    requires="modeldeploy[server-onnx]",
)
TORCHSCRIPT = Format(
    name="torchscript",
    suffixes=(".pt", ".pth", ".pt2"),
    runs_code=True,
    begins=(b"PK",),
    description="PyTorch models saved by TorchScript (.pt) or torch.export (.pt2)",
    loader=f"{_RUNTIMES}.torchscript:load",
    requires="modeldeploy[server-torch]",
)
KERAS = Format(
    name="keras",
    suffixes=(".keras", ".h5", ".hdf5"),
    # Layers of the .h5 form may hold code, and the safe mode of the other has been broken more than once.
    runs_code=True,
    begins=(b"PK", b"\x89HDF"),
    description="Keras models",
    loader=f"{_RUNTIMES}.keras:load",
    requires="modeldeploy[server-keras]",
)
PMML = Format(
    name="pmml",
    suffixes=(".pmml",),
    begins=(b"<", b"\xef\xbb\xbf<"),
    description="PMML documents",
    loader=f"{_RUNTIMES}.pmml:load",
    requires="modeldeploy[server-pmml]",
)
TRANSFORMERS = Format(
    name="transformers",
    suffixes=(),
    # Weights are plain data; code of the package's own is refused by the loader unless it is trusted.
    folder=("config.json", "*.safetensors"),
    beside=("*.h5", "*.onnx", "*.pt", "*.pth"),
    description="Hugging Face models saved with save_pretrained: config.json, *.safetensors and tokenizer.json",
    loader=f"{_RUNTIMES}.transformers:load",
    requires="modeldeploy[server-transformers]",
)
MODULE = Format(
    name=PYTHON,
    suffixes=(),
    runs_code=True,
    description="a model.py with load_model(path) and predict(model, inputs)",
    loader=f"{_RUNTIMES}.python:load",
)
