"""How a model takes its rows: JSON instances and protocol tensors become the arrays it is called with.

One file a layout: `matrix` (numeric columns side by side), `columns` (one array a feature),
`tensors` (named arrays of any rank), `anything` (nothing is known).
"""
