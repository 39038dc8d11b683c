"""The tasks. A new one is a new folder here and a line in `TASKS`."""

from __future__ import annotations

from handlens.tasks.classify.task import Classify
from handlens.tasks.detect.task import Detect
from handlens.tasks.regress.task import Regress
from handlens.tasks.segment.task import Segment
from handlens.tasks.tag.task import Tag
from handlens.tasks.task import Task

TASKS: dict[str, Task] = {
    "classify": Classify(),
    "tag": Tag(),
    "segment": Segment(),
    "detect": Detect(),
    "regress": Regress(),
}
