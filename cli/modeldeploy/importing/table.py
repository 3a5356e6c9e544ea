"""The table of findings that `modeldeploy import` prints. PURE."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from modeldeploy.importing.values import Finding, Verdict
from modeldeploy.plain import plain


def table_of(findings: Sequence[Finding]) -> Table:
    """One row for each finding, those without a counterpart first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("FIELD", "", "WHAT TO KNOW"):
        table.add_column(column, overflow="fold")
    for one in sorted(findings, key=lambda one: one.verdict is not Verdict.LOST):
        table.add_row(Text(plain(one.path)), Text(one.verdict), Text(plain(one.message)))
    return table
