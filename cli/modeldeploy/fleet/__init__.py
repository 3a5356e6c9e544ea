"""What all models together use and cost, and which of them do nothing: values, calculation, table. PURE.

`commands/fleet.py` and the dashboard show it; `dashboard/exposition.py` reads what pods answer.
"""
