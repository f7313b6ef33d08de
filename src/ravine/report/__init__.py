"""The report: one HTML file that opens offline, and the same in plain text for a terminal.

write_report(folders, out)   one page for one or many runs
summary(folders)             a rich renderable of the table of statuses
plain_summary(folders)       the same as a string
load_run(folder)             one run folder as a `RunRecord`
"""

from .load import RunRecord, load_run
from .page import write_report
from .terminal import plain_summary, summary

__all__ = ["RunRecord", "load_run", "plain_summary", "summary", "write_report"]
