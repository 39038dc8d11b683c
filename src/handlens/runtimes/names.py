"""Names of a graph's input and outputs, for those who run it without torch."""

INPUT = "images"
PROBABILITIES = "probabilities"
FEATURES = "features"
CLASS_MAP = "classes"
BOXES, SCORES, LABELS = "boxes", "scores", "labels"
