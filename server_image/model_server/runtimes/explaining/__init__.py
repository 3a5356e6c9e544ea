"""Explanations of models, a file for each way to explain; `selection.py` chooses one."""
