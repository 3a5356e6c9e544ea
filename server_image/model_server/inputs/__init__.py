"""How a model takes its rows: JSON instances and protocol tensors become the arrays it is called with.

One file an adapter: `matrix` (numeric columns side by side), `columns` (one array a feature),
`tensors` (named arrays of any rank), `texts` (a text a row), `untyped` (nothing is known).
"""
