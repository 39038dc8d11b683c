"""The one door: every file that is not ours is opened, decoded and parsed here, and nowhere else.

Regular files only, no larger than the limit of their kind (`files.LIMITS`); text in an encoding that is stated, or
marked, or UTF-8; JSON, YAML, XML and tables with the limits of `parsed` and `rows`. Whatever is wrong with a file
becomes one sentence that names it. tests/test_design.py holds that no other module opens one.
"""
