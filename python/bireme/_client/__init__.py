"""Client of a Bireme host: lookups, calls, maps, embeddings. Standard library only.

Not here: what runs in a sandbox (`bireme._sdk`). Nothing is connected and no thread starts before the first request.
"""

from __future__ import annotations

from .call import CallStatus, FunctionCall
from .embed import embed
from .function import Function
from .host import Host, connect
from .map_run import MapRun
from .maps import Map, MapStatus
from .outcome import MapOutcome, Outcome
from .receipt import Receipt

__all__ = [
    "CallStatus",
    "Function",
    "FunctionCall",
    "Host",
    "Map",
    "MapOutcome",
    "MapRun",
    "MapStatus",
    "Outcome",
    "Receipt",
    "connect",
    "embed",
]
