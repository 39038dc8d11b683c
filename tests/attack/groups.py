"""All cases, by what is attacked."""

from attack import gate, images, labels, names, processes, runs, tables

GROUPS = {
    "images": images.CASES,
    "names": names.CASES,
    "labels": labels.CASES,
    "tables": tables.CASES,
    "runs": runs.CASES,
    "processes": processes.CASES,
    "gate": gate.CASES,
}
