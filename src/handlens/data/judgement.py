"""What an audit means for training: errors stop it, warnings are printed and stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from handlens.data.annotations import BoxKind, MaskFault
from handlens.data.findings import Audit, Finding, Groups
from handlens.data.record import Level, Task

# Our choice, all of them.
LARGEST_IMBALANCE = 10.0  # images of the largest class per image of the smallest
FEWEST_TRAINING_IMAGES = 10  # per class
LISTED = 12  # names in a sentence
SMALLEST_SIDE = 32  # pixels: the stem and the first blocks of a mobile net already reduce that to one

UNITS: dict[Task, str] = {"classify": "images", "tag": "images", "segment": "images", "detect": "boxes"}
MASK_SENTENCES: dict[MaskFault, str] = {
    "mask_missing": "missing",
    "mask_unreadable": "that cannot be read",
    "mask_size": "of another size than the image",
    "mask_values": "with values that no class has",
}
# What is wrong, and what training does about it.
BOX_SENTENCES: dict[BoxKind, tuple[str, str]] = {
    "inverted": ("with left and right or top and bottom swapped", "left out, and the objects look like background"),
    "empty": ("without width or height", "left out"),
    "outside": ("outside the image", "cut at its frame"),
    "duplicate": ("there twice", "the second one is left out"),
    "tiny": ("below 1 % of the image's side", "a larger input or a finer grid of anchors may be needed"),
}


def findings_of(audit: Audit) -> Iterator[Finding]:
    """Errors, then warnings, then notes."""
    yield from _errors(audit)
    yield from _warnings(audit)
    yield from _notes(audit)


def training_counts(class_counts: Mapping[str, dict[str, int]]) -> dict[str, int]:
    """Readable images per class that training may use; empty where only other splits are given."""
    return class_counts.get("train") or class_counts.get("all") or {}


def _errors(audit: Audit) -> Iterator[Finding]:
    images = len(audit.dataset.records)
    if not images:
        yield Finding("error", "empty", f"{audit.dataset.root} holds no images.")
        return
    if len(audit.unreadable) == images:
        yield Finding("error", "nothing_readable", f"none of the {_images(images)} can be read.")
        return
    if not audit.dataset.class_names:
        return
    yield from _label_errors(audit)


def _label_errors(audit: Audit) -> Iterator[Finding]:
    """What makes the labels of all images together unfit for the task."""
    task = audit.dataset.task
    present = [name for name in audit.dataset.class_names if any(c[name] for c in audit.class_counts.values())]
    if task == "segment" and not present:
        reason = audit.bad_masks[0][2] if audit.bad_masks else "there are none, or all their pixels are ignored."
        yield Finding("error", "no_usable_mask", f"no mask can be used: {reason}")
    elif task == "detect" and not sum(training_counts(audit.class_counts).values()):
        yield Finding("error", "no_boxes", "no training image has a box: there is nothing to learn to find.")
    elif len(present) == 1 and task in ("classify", "segment"):
        where = "images are" if task == "classify" else "pixels that count are"
        yield Finding("error", "one_class", f"all {where} of one class, {present[0]}; a second is needed.")
    without = [name for name, count in training_counts(audit.class_counts).items() if not count]
    if without and task == "classify":
        yield Finding(
            "error",
            "class_without_images",
            f"no readable training image of {', '.join(without)}; add some, or take the class out everywhere.",
        )


def _warnings(audit: Audit) -> Iterator[Finding]:
    if audit.unreadable:
        ids, reasons = tuple(id for id, _ in audit.unreadable), tuple(reason for _, reason in audit.unreadable)
        sentence = f"{_images(len(ids))} cannot be read and would be left out. The first: {reasons[0]}"
        yield Finding("warning", "unreadable", sentence, ids, reasons)
    if audit.across_splits:
        yield Finding(
            "warning",
            "duplicates_across_splits",
            f"{_photographs(len(audit.across_splits))} in more than one split: test results look better than they are.",
            _members(audit.across_splits),
        )
    if audit.conflicting:
        yield Finding(
            "warning",
            "conflicting_labels",
            f"{_photographs(len(audit.conflicting))} under more than one label; at most one can be right.",
            _members(audit.conflicting),
        )
    yield from _remarks(audit, "warning")
    yield from _mask_warnings(audit)
    yield from _box_warnings(audit)
    yield from _count_warnings(audit)
    if audit.small:
        yield Finding("note", "small", f"{_images(len(audit.small))} below {SMALLEST_SIDE} pixels a side.", audit.small)


def _count_warnings(audit: Audit) -> Iterator[Finding]:
    """Classes with too little to learn from, or far less than others."""
    task = audit.dataset.task
    counts = training_counts(audit.class_counts)
    unit = UNITS[task]
    if audit.imbalance is not None and audit.imbalance > LARGEST_IMBALANCE and task != "segment":  # there it is usual
        largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        weights = "class weights or " if task in ("classify", "tag") else ""
        yield Finding(
            "warning",
            "imbalance",
            f"{counts[largest]} training {unit} of {largest} but {counts[smallest]} of {smallest}; "
            f"{weights}more {unit} of {smallest} would help.",
        )
    without = [name for name, count in counts.items() if not count]
    if without and task != "classify" and len(without) < len(counts):
        what = {"detect": "box", "tag": "image"}.get(task, "pixel")
        yield Finding(
            "warning", "class_without_labels", f"no training {what} of {_listed(without)}: that cannot be learned."
        )
    if task == "tag":
        training = sum(record.split in (None, "train") for record in audit.dataset.records)
        always = [name for name, count in counts.items() if count == training]
        if always:
            yield Finding(
                "warning",
                "class_of_all",
                f"every training image is {_listed(always)}: without an image that is not, that cannot be learned.",
            )
    single = [name for name, count in counts.items() if count == 1]
    if single and task == "classify":
        yield Finding("warning", "single_image", f"one image cannot be validated as well: {', '.join(single)}.")
    fewest = 2 if task == "classify" else 1
    few = [f"{name} {count}" for name, count in counts.items() if fewest <= count < FEWEST_TRAINING_IMAGES]
    if few:
        code = "few_boxes" if task == "detect" else "few_images"
        yield Finding("warning", code, f"fewer than {FEWEST_TRAINING_IMAGES} training {unit}: {_listed(few)}.")


def _mask_warnings(audit: Audit) -> Iterator[Finding]:
    records = audit.dataset.records
    if audit.dataset.task == "segment" and (ids := tuple(r.id for r in records if r.mask is None)):
        yield Finding("warning", "without_label", f"{_images(len(ids))} without a mask.", ids)
    for fault, sentence in MASK_SENTENCES.items():
        bad = [(id, reason) for id, code, reason in audit.bad_masks if code == fault]
        if bad:
            yield Finding(
                "warning",
                fault,
                f"{_counted(len(bad), 'mask')} {sentence}, and the images would be left out. The first: {bad[0][1]}",
                tuple(id for id, _ in bad),
                tuple(reason for _, reason in bad),
            )
    if audit.all_ignored:
        count = _images(len(audit.all_ignored))
        yield Finding(
            "warning", "all_ignored", f"{count} of ignored pixels alone; they would be left out.", audit.all_ignored
        )


def _remarks(audit: Audit, level: Level) -> Iterator[Finding]:
    """What the reader has to say."""
    for remark in audit.dataset.remarks:
        if remark.level == level:
            yield Finding(level, remark.code, remark.message, remark.files, remark.reasons)


def _box_warnings(audit: Audit) -> Iterator[Finding]:
    records = audit.dataset.records
    if audit.dataset.task == "detect" and (ids := tuple(r.id for r in records if r.boxes is None)):
        yield Finding("warning", "without_label", f"{_images(len(ids))} without a list of objects.", ids)
    if audit.wrong_sizes:
        id, stated, true = audit.wrong_sizes[0]
        yield Finding(
            "warning",
            "label_size",
            f"{_images(len(audit.wrong_sizes))} of another size than the labels say, so boxes may lie elsewhere. The "
            f"first: {id} is {true[0]} x {true[1]} pixels, upright, and its label is for {stated[0]} x {stated[1]}.",
            tuple(id for id, *_ in audit.wrong_sizes),
        )
    for kind, sentence in BOX_SENTENCES.items():
        faults = [fault for fault in audit.box_faults if fault.kind == kind]
        if not faults:
            continue
        ids = tuple(dict.fromkeys(fault.id for fault in faults))
        shares = sorted(fault.share for fault in faults)
        most = f", the worst with {100 * shares[-1]:.0f} % of its area" if kind == "outside" else ""
        yield Finding(
            "warning",
            f"box_{kind}",
            f"{_counted(len(faults), 'box')} in {_images(len(ids))} {sentence[0]}{most}; {sentence[1]}.",
            ids,
        )


def _notes(audit: Audit) -> Iterator[Finding]:
    for note in audit.dataset.notes:
        yield Finding("note", "layout", note)
    yield from _remarks(audit, "note")
    if audit.dataset.records and not audit.dataset.class_names:
        yield Finding("note", "no_labels", "the images have no labels: they can be predicted, not trained on.")
    untagged = tuple(record.id for record in audit.dataset.records if record.tags == ())
    if untagged:
        yield Finding("note", "no_tags", f"{_images(len(untagged))} with none of the labels.", untagged)
    background = tuple(record.id for record in audit.dataset.records if record.boxes == ())
    if background and len(background) < len(audit.dataset.records):
        yield Finding(
            "note",
            "background",
            f"{_images(len(background))} without any object: background to learn from.",
            background,
        )
    within = tuple(group for group in audit.duplicates if group not in set(audit.across_splits))
    if within:
        yield Finding(
            "note",
            "duplicates",
            f"{_photographs(len(within))} more than once; copies stay on one side of a split made here.",
            _members(within),
        )
    if audit.wrong_extension:
        ids = tuple(id for id, _ in audit.wrong_extension)
        yield Finding("note", "wrong_extension", f"{_images(len(ids))} of another type than the name says.", ids)
    if audit.rotated:
        yield Finding("note", "rotated", f"{_images(len(audit.rotated))} turned upright as EXIF says.", audit.rotated)
    if audit.animated:
        yield Finding(
            "note",
            "animated",
            f"{_images(len(audit.animated))} with several frames; the first counts.",
            audit.animated,
        )


def _images(count: int) -> str:
    return _counted(count, "image")


def _counted(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}{'es' if what.endswith('x') else 's'}"


def _listed(names: Sequence[str]) -> str:
    """The first of them: a data set may have a thousand classes."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _photographs(count: int) -> str:
    return "1 photograph is there" if count == 1 else f"{count} photographs are there"


def _members(groups: Groups) -> tuple[str, ...]:
    return tuple(id for group in groups for id in group)
