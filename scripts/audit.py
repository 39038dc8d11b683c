"""See scripts/audit. Exit code 1 where a package is bad, or a bound lets a bad version in."""

import csv
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]


def license_of(package: str) -> str:
    try:
        said = metadata(package)
    except PackageNotFoundError:
        return "not installed here"
    classifiers = [
        entry.split(" :: ")[-1] for entry in said.get_all("Classifier", []) if entry.startswith("License ::")
    ]
    text = (
        said.get("License-Expression") or ", ".join(classifiers) or (said.get("License") or "").strip().split("\n")[0]
    )
    return text[:60] or "not stated"


def bad_versions() -> list[tuple[str, list[SpecifierSet], str]]:
    """(package, ranges of versions, why)."""
    with (ROOT / "scripts" / "known-bad.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        (canonicalize_name(row["package"]), [SpecifierSet(part) for part in row["versions"].split(",")], row["reason"])
        for row in rows
    ]


def lets_in(bound: SpecifierSet, bad: SpecifierSet) -> str | None:
    """A bad version that a bound of pyproject.toml allows: of "<3.1.6" the versions just below, of "==2.6.2" itself."""
    for one in bad:
        version = Version(one.version)
        tried = [version] if one.operator == "==" else list(_below(version))
        for candidate in tried:
            if candidate in bad and candidate in bound:
                return str(candidate)
    return None


def _below(version: Version) -> list[Version]:
    """Releases before one, each with a part counted down."""
    parts = list(version.release)
    found = []
    for place, part in enumerate(parts):
        found += [Version(".".join(map(str, [*parts[:place], part - step, 99]))) for step in range(1, part + 1)]
    return found


def main() -> int:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+).*", line.strip()):
            pins[canonicalize_name(found[1])] = found[2]
    for package, version in sorted(pins.items()):
        print(f"{package} {version}: {license_of(package)}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    bounds = {canonicalize_name(wanted.name): wanted.specifier for wanted in map(Requirement, texts)}
    faults = []
    for package, ranges, reason in bad_versions():
        for bad in ranges:
            if package in pins and Version(pins[package]) in bad:
                faults.append(f"{package} {pins[package]} is pinned: {reason}")
            if package in bounds and (version := lets_in(bounds[package], bad)):
                faults.append(f"pyproject.toml allows {package} {version}: {reason}")
    for fault in faults:
        print(f"BAD {fault}", file=sys.stderr)
    if shutil.which("pip-audit"):
        command = ["pip-audit", "--no-deps", "--requirement", str(ROOT / "constraints.txt"), "--timeout", "15"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print((done.stdout + done.stderr).strip()[-2000:])
    else:
        print("pip-audit is not installed: checked against scripts/known-bad.csv alone")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
