"""From a trained net to something that runs: the graph that is shipped, and the engines that run it."""
