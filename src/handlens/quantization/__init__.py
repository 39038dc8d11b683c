"""int8 simulated in PyTorch: the same rounding as the runtimes' quantizers, before anything is exported."""
