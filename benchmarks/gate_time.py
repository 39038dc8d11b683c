"""What an export costs beside its conversion: python benchmarks/gate_time.py [RUNTIME ...]

A head run of MobileNetV2 on 400 flowers, exported as `handlens export` does it, with its gate and the folder for apps.
Processor seconds of all processes of the whole command, those of the conversion taken off. At most 60.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import handlens, shared_images, store

from handlens.runtimes import RUNTIMES

runtimes = sys.argv[1:] or list(RUNTIMES)
IMAGES = 400
CODE = """
import json, resource, sys
from handlens.cli import main
from handlens.runtimes import RUNTIMES

def used():
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)

kind = type(RUNTIMES[sys.argv[1]])
honest, converting = kind.convert, []

def convert(self, *arguments, **options):
    begin = used()
    try:
        return honest(self, *arguments, **options)
    finally:
        converting.append(used() - begin)

kind.convert = convert
sys.argv = ["handlens", "export", sys.argv[2], "--to", sys.argv[1], "--json"]
try:
    main()
except SystemExit as end:
    code = end.code
print(json.dumps({"code": code, "seconds": used(), "converting": sum(converting)}), file=sys.stderr)
"""

rows = []
with tempfile.TemporaryDirectory() as scratch:
    folder = Path(scratch)
    classes = sorted((shared_images("flowers") / "train").iterdir())
    for kind in classes:
        (folder / "data" / kind.name).mkdir(parents=True)
        for file in sorted(kind.iterdir())[: IMAGES // len(classes)]:
            (folder / "data" / kind.name / file.name).symlink_to(file)
    run = folder / "run"
    handlens("train", folder / "data", "--out", run)
    for name in runtimes:
        done = subprocess.run([sys.executable, "-c", CODE, name, str(run)], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        used = json.loads(done.stderr.strip().splitlines()[-1])
        (made,) = json.loads(done.stdout)["exports"]
        rows.append(
            {
                "runtime": name,
                "passed": made["passed"],
                "images compared": made["rows"][0]["images"],
                "of": made["available"],
                "processor s": used["seconds"],
                "of it the conversion": used["converting"],
                "beside it": used["seconds"] - used["converting"],
            }
        )
store("gate_time", rows)
