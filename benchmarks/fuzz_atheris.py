"""The parsers of text, guided by coverage: python benchmarks/fuzz_atheris.py [--seconds N]   (pip install atheris)

Each input is a kind of text and its bytes. Whatever it is, it is read, or refused in one sentence; anything else ends
the run with the input. Stores how many were tried.
"""

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from common import store

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=int, default=120)
parser.add_argument("--one", action="store_true", help="in this process, until the time is over")
asked = parser.parse_args()


def one() -> None:
    import atheris

    with atheris.instrument_imports(include=["handlens.reading", "handlens.names", "yaml", "csv", "json"]):
        from handlens.errors import InputError
        from handlens.names import as_json, for_csv, for_terminal, from_csv
        from handlens.reading.parsed import parse_json, parse_yaml, read_xml
        from handlens.reading.rows import peek_rows, read_rows
        from handlens.reading.text import decoded

    file = Path(tempfile.mkdtemp()) / "file"

    def attempt(content: bytes) -> None:
        kind, content = content[:1], content[1:]
        with contextlib.suppress(InputError):
            text = decoded(content, file)
            if kind < b"\x40":
                parse_yaml(text, file)
            elif kind < b"\x80":
                parse_json(text, file)
            elif kind < b"\xa0":
                file.write_bytes(content)
                read_xml(file)
            elif kind < b"\xc0":
                file.write_bytes(content)
                peek_rows(file)
                read_rows(file)
            else:
                for_terminal(text).encode()
                as_json({text: text}).encode()
                assert from_csv(for_csv(text)) == text or any("\ud800" <= sign <= "\udfff" for sign in text)

    arguments = [sys.argv[0], f"-max_total_time={asked.seconds}", "-max_len=400", "-rss_limit_mb=4000", "-timeout=5"]
    atheris.Setup(arguments, attempt)
    atheris.Fuzz()


if asked.one:
    with contextlib.redirect_stdout(io.StringIO()):
        one()
    sys.exit()
command = [sys.executable, __file__, "--one", "--seconds", str(asked.seconds)]
done = subprocess.run(command, capture_output=True, text=True, check=False)
last = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
print(done.stderr[-2000:] if done.returncode else last)
assert done.returncode == 0 and last
store("fuzz_atheris", [{"seconds": asked.seconds, "inputs": int(last[-1].split()[1]), "failures": 0}])
