"""Detectors: anchors, box coding, matching, suppression, and one file per paper."""
