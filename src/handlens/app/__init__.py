"""What lies beside an exported file for whoever builds an app on it: a README, preprocessing code in five languages,
golden images with expected inputs and outputs, and a self-test.

Files of the folder come from templates, real files by language: here what all runtimes share, in a runtime's room how
its file is run. A task's room has `answer.py`, from arrays to words.
"""
