"""Training throughput in images per second, including data loading: python benchmarks/training_step.py

At least 2.5 times a plain torch + torchvision loop (fp32, Pillow, 2 workers) with the same model.
Both train MobileNetV2 1.0 at 224 on the same JPEGs in batches of 32, including data loading and optimizer, each in
its own process, in turn.
"""

import json
import subprocess
import sys

from common import interleaved, shared_images, store

BATCH, STEPS = 32, 12

PLAIN = """
import sys, time, json, torch, torchvision
from torchvision import transforms as T
folder, batch, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
transform = T.Compose([T.RandomResizedCrop(224), T.RandomHorizontalFlip(), T.ToTensor(),
                       T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
data = torchvision.datasets.ImageFolder(folder, transform)
loader = torch.utils.data.DataLoader(data, batch_size=batch, shuffle=True, num_workers=2)
net = torchvision.models.mobilenet_v2(num_classes=len(data.classes)).train()
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-4)
times = []
for step, (images, targets) in enumerate(loader):
    if step == 2: begin = time.perf_counter()
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(images), targets).backward()
    optimizer.step()
    if step == 1 + steps: break
print(json.dumps(steps * batch / (time.perf_counter() - begin)))
"""

OURS = """
import sys, time, json, torch
from pathlib import Path
from handlens.data import open_dataset
from handlens.data.augment import image_augment, smallest_training_decode
from handlens.data.examples import ImageExamples
from handlens.data.loaders import ResumableLoader
from handlens.models import build
from handlens.models.blocks import freeze_batch_norm
from handlens.preprocess import Preprocess
from handlens.tasks.classify.training import class_of
from handlens.tasks.classify.training import ClassifierTraining
from handlens.training.fit import autocast_precision
from handlens.training.optim import keep_freed_memory
from handlens.training.recipe_file import make_recipe
folder, batch, steps, frozen, workers, reuse = sys.argv[1], *map(int, sys.argv[2:])
if reuse: keep_freed_memory()
recipe, preprocess = make_recipe({}), Preprocess()
dataset = open_dataset(Path(folder))
images = ImageExamples(dataset.records, preprocess=preprocess, label=class_of, seed=0,
    transform=image_augment(preprocess, flip=0.5, crop_area=0.35, color=0.2),
    at_least=smallest_training_decode(preprocess, crop_area=0.35))
loader = ResumableLoader(images, batch_size=batch, seed=0, shuffle=True, workers=workers)
net = build("mobilenet_v2", num_classes=len(dataset.class_names)).train()
if frozen: freeze_batch_norm(net)
net.to(memory_format=torch.channels_last)
module = ClassifierTraining(net, recipe=recipe, preprocess=preprocess, num_classes=len(dataset.class_names),
    total_steps=1000, class_weights=None)
optimizer = module.configure_optimizers()["optimizer"]
bf16 = autocast_precision("auto") != "32-true"
for step, (images, targets) in enumerate(loader):
    if step == 2: begin = time.perf_counter()
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = net(module.normalized(images))
        loss = torch.nn.functional.cross_entropy(logits.float(), targets)
    loss.backward()
    optimizer.step()
    if step == 1 + steps: break
print(json.dumps(steps * batch / (time.perf_counter() - begin)))
"""

folder = shared_images("flowers") / "train"


def run(code: str, *arguments: int) -> float:
    command = [sys.executable, "-c", code, str(folder), str(BATCH), str(STEPS), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return float(json.loads(done.stdout.splitlines()[-1]))


rates = interleaved(
    {
        "plain torch + torchvision": lambda: run(PLAIN),
        "handlens, finetune (frozen batch-norm statistics), no worker": lambda: run(OURS, 1, 0, 1),
        "handlens, finetune, one worker": lambda: run(OURS, 1, 1, 1),
        "handlens, scratch (training batch norm), no worker": lambda: run(OURS, 0, 0, 1),
        "handlens, scratch, one worker": lambda: run(OURS, 0, 1, 1),
        "handlens, finetune, one worker, memory returned": lambda: run(OURS, 1, 1, 0),
    },
    rounds=3,
)
plain = rates["plain torch + torchvision"]
store(
    "training_step",
    [{"loop": name, "images_per_second": rate, "ratio": rate / plain} for name, rate in rates.items()],
)
