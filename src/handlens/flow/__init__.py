"""One module per command: the only place where the parts meet. `handlens.train(...)` is `flow.train.train(...)`.

Nothing heavy is imported until it is needed: `predict` starts without torch.
"""
