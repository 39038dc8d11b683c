"""Convert what torch.export saved to LiteRT, without handlens: python converter_script.py PROGRAM FILE."""

import logging
import sys
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import litert_torch  # noqa: E402 - its advice is silenced first
import torch  # noqa: E402

source, destination = sys.argv[1:]
program = torch.export.load(source)
_, named = program.example_inputs
# The converter exports what it is given. This is exported already, and keeps the layers' names only as it is.
torch.export.export = lambda *args, **kwargs: program
with torch.inference_mode():
    litert_torch.convert(torch.nn.Identity(), sample_kwargs=named).export(destination)
