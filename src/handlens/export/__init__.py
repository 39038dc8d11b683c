"""One file per runtime that is shipped, and the gate that each export must pass."""
