"""Python processes that find what is installed where this one does, and nothing else of the user's."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

OPTIONS = ["-P", "-s"]  # neither the script's folder nor the user's own


def environment() -> dict[str, str]:
    """Variables for such a process: this one's, of those for Python PYTHONPATH alone.

    That names folders of installed packages which Python does not search by itself, such as the user's own
    (pip install --user) and those of an environment module of a cluster.
    """
    own = {str(Path(folder).resolve()) for folder in site.getsitepackages()}
    others = (folder for folder in sys.path if folder and str(Path(folder).resolve()) not in own)
    installed = os.pathsep.join(folder for folder in others if any(Path(folder).glob("*.dist-info")))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"PYTHONPATH": installed}
