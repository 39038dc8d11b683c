"""Models timed side by side: each in a process of its own, all of them in turn, so that whatever slows the machine down
slows all of them."""
