"""What an audit means for training: errors stop it, warnings are printed and stored."""

from __future__ import annotations

from collections.abc import Iterator

from handlens.data.findings import Audit, Groups
from handlens.data.labels.finding import Finding, Level, images

# Our choice.
SMALLEST_SIDE = 32  # pixels: the stem and the first blocks of a mobile net already reduce that to one


def findings_of(audit: Audit) -> Iterator[Finding]:
    """Errors, then warnings, then notes."""
    yield from _errors(audit)
    yield from _warnings(audit)
    yield from _notes(audit)


def _errors(audit: Audit) -> Iterator[Finding]:
    count = len(audit.dataset.records)
    if not count:
        yield Finding("error", "empty", f"{audit.dataset.root} contains no images.")
        return
    if len(audit.unreadable) == count:
        yield Finding("error", "nothing_readable", f"none of the {images(count)} can be read.")
        return
    if not audit.dataset.class_names:
        return
    yield from audit.dataset.kind.errors(audit)


def _warnings(audit: Audit) -> Iterator[Finding]:
    if audit.unreadable:
        ids, reasons = tuple(id for id, _ in audit.unreadable), tuple(reason for _, reason in audit.unreadable)
        sentence = f"{images(len(ids))} cannot be read and will be left out. The first: {reasons[0]}"
        yield Finding("warning", "unreadable", sentence, ids, reasons)
    if audit.across_splits:
        yield Finding(
            "warning",
            "duplicates_across_splits",
            f"{_groups(len(audit.across_splits))} in more than one split: test results would be too optimistic.",
            _members(audit.across_splits),
        )
    if audit.conflicting:
        yield Finding(
            "warning",
            "conflicting_labels",
            f"{_groups(len(audit.conflicting))} with different labels; at most one can be correct, except in videos.",
            _members(audit.conflicting),
        )
    yield from _remarks(audit, "warning")
    if audit.dataset.class_names:
        yield from audit.dataset.kind.warnings(audit)
    if audit.small:
        yield Finding(
            "note", "small", f"{images(len(audit.small))} smaller than {SMALLEST_SIDE} pixels on a side.", audit.small
        )


def _remarks(audit: Audit, level: Level) -> Iterator[Finding]:
    """What the reader has to say."""
    for remark in audit.dataset.remarks:
        if remark.level == level:
            yield Finding(level, remark.code, remark.message, remark.files, remark.reasons)


def _notes(audit: Audit) -> Iterator[Finding]:
    for note in audit.dataset.notes:
        yield Finding("note", "layout", note)
    yield from _remarks(audit, "note")
    if audit.dataset.records and not audit.dataset.class_names:
        yield Finding(
            "note", "no_labels", "the images have no labels: they can be used for prediction, not for training."
        )
    yield from audit.dataset.kind.notes(audit)
    within = tuple(group for group in audit.duplicates if group not in set(audit.across_splits))
    if within:
        yield Finding(
            "note",
            "duplicates",
            f"{_groups(len(within))}, each in one split.",
            _members(within),
        )
    if audit.wrong_extension:
        ids = tuple(id for id, _ in audit.wrong_extension)
        yield Finding(
            "note", "wrong_extension", f"{images(len(ids))} whose content does not match the file extension.", ids
        )
    if audit.rotated:
        yield Finding("note", "rotated", f"{images(len(audit.rotated))} rotated according to EXIF.", audit.rotated)
    if audit.animated:
        yield Finding(
            "note",
            "animated",
            f"{images(len(audit.animated))} with several frames; only the first is used.",
            audit.animated,
        )


def _groups(count: int) -> str:
    return "1 image has duplicates" if count == 1 else f"{count} images have duplicates"


def _members(groups: Groups) -> tuple[str, ...]:
    return tuple(id for group in groups for id in group)
