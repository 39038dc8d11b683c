"""Large files from an address: continued where a line broke, and whole or not there at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import requests

CHUNK = 1 << 20  # bytes


class DownloadError(Exception):
    """The address did not give the file; the message says why, without a full stop."""


def download(
    url: str, path: Path, *, largest: int | None = None, progress: Callable[[int, int | None], None] | None = None
) -> None:
    """Fetch an address into `path`, by way of `path`.part, which is continued where it is there.

    Args:
        largest: bytes; one that sends more has another file: a log-in page, or worse.
        progress: takes (bytes so far, bytes in all, or None where the server does not say).

    Raises:
        DownloadError: no answer, a refusal, or an answer that ended too soon; what came is kept in the part.
    """
    part = path.with_name(f"{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.is_file() else 0
    try:
        # "identity": bytes as they are stored, so that a place in the part is a place in the file.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, stream=True, timeout=(10, 60), headers=headers) as answer:
            if answer.status_code == 416:  # nothing beyond what is there: it was whole, or is another file's
                part.unlink()
                raise DownloadError("the partial download did not match and was deleted; try again")
            answer.raise_for_status()
            continued = answer.status_code == 206
            done = have if continued else 0
            stated = answer.headers.get("Content-Length")
            total = done + int(stated) if stated else None
            with part.open("ab" if continued else "wb") as file:
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    if largest is not None and done > largest:
                        break
                    if progress is not None:
                        progress(done, total)
    except requests.RequestException as error:
        said = f"HTTP {error.response.status_code}" if error.response is not None else type(error).__name__
        raise DownloadError(f"the server did not provide it ({said})") from None
    if largest is not None and done > largest:
        part.unlink()
        raise DownloadError(f"the server has a different file, of more than {largest:,} bytes")
    if total is not None and done != total:
        raise DownloadError(f"the connection was lost after {done:,} of {total:,} bytes")
    part.replace(path)


def has_digest(path: Path, digest: str) -> bool:
    """Whether a file is the published one.

    Args:
        digest: "md5:..." or "sha256:...", as its publisher states it.
    """
    algorithm, _, value = digest.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest() == value
