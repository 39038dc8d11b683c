"""Layouts of public data sets, rebuilt in small, that are read right or refused with the line to copy:
python benchmarks/layouts.py

Each is a test of tests/data/test_layouts.py; here they are run one by one, and what came is stored.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from common import ROOT, store

with tempfile.TemporaryDirectory() as scratch:
    found = Path(scratch) / "layouts.xml"
    command = [sys.executable, "-m", "pytest", "-q", "tests/data/test_layouts.py", f"--junitxml={found}"]
    subprocess.run(command, cwd=ROOT, check=False)
    cases = list(ElementTree.parse(found).iter("testcase"))
rows = [{"layout": case.get("name"), "as it must be": not len(case)} for case in cases]
held = sum(row["as it must be"] for row in rows)
store("layouts", rows, notes=[f"{held} of {len(rows)}"])
