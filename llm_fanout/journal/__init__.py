"""What survives the end of a process: the results of a run in one SQLite file, each on disk before anybody sees it.

`Journal` names the file and says how it is kept; `OpenJournal` is one in use. Theory of operation: one thread owns the
file. Whatever is asked of it waits in one queue; it commits whenever it is idle, everything that waits in one transaction
(at most 64 results), and then tells whoever handed results in. So the event loop never waits for a disk, and a slow disk
makes transactions larger, not more of them.
"""

from .opened import OpenJournal
from .stated import Journal

__all__ = ["Journal", "OpenJournal"]
