"""How long the tests take: python benchmarks/test_time.py [LOG]

Runs `scripts/test --all`, alone, or reads what it printed from LOG. At most: `scripts/test`, which is the first part,
10 minutes, all parts together 25. They need the real images beside the project, or many are skipped.
"""

import re
import subprocess
import sys
from pathlib import Path

from common import store

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("quick: scripts/test", "slow", "with spawned processes", "resume with all threads")

if len(sys.argv) > 1:
    printed = Path(sys.argv[1]).read_text(encoding="utf-8")
else:
    done = subprocess.run([ROOT / "scripts" / "test", "--all"], stdout=subprocess.PIPE, text=True, check=True)
    printed = done.stdout
rows = []
for line in re.findall(r"^=*\s*(\d+ passed.* in [\d.]+s.*)$", printed, re.MULTILINE):
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped)", line)}
    seconds = float(re.findall(r" in ([\d.]+)s", line)[0])
    rows.append({"part": PARTS[len(rows)], "passed": 0, "failed": 0, "skipped": 0} | counts | {"seconds": seconds})
assert len(rows) == len(PARTS), printed[-2000:]
store("test_time", rows, notes=[f"together {sum(row['seconds'] for row in rows) / 60:.1f} minutes"])
