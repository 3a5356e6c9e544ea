"""Labels that come days after their predictions, joined to the input log; `python -m model_server labels`."""
