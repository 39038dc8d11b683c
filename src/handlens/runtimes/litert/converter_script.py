"""Convert what torch.export saved to LiteRT, without handlens: python converter_script.py PROGRAM FILE OUTPUT..."""

import logging
import sys
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import litert_torch  # noqa: E402 - its advice is silenced first
import torch  # noqa: E402

source, destination, *outputs = sys.argv[1:]
program = torch.export.load(source)


class Named(torch.nn.Module):
    """Outputs by name: LiteRT keeps the names of a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.program = program.module()

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        made = self.program(images)
        return dict(zip(outputs, made if isinstance(made, tuple) else (made,), strict=True))


(example,), _ = program.example_inputs
with torch.inference_mode():
    litert_torch.convert(Named(), sample_kwargs={"images": example}).export(destination)
