"""Names of a graph's input and outputs, for those who run it without torch."""

INPUT = "images"
PROBABILITIES = "probabilities"
FEATURES = "features"
CLASS_MAP = "classes"
BOXES, SCORES, LABELS = "boxes", "scores", "labels"

FOR_APPS = "-app"  # behind the name of an exported file: the folder for whoever builds an app
