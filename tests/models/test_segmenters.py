"""What every segmenter of the catalogue promises."""

from __future__ import annotations

import copy
import warnings

import onnxruntime
import openvino
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from families import family_first
from handlens.losses.pixel import cross_entropy
from handlens.models import CATALOGUE, build
from handlens.models.blocks import freeze_batch_norm
from handlens.preprocess import SCALINGS

SMALL = {"deeplab_v3": {"width": 0.35}, "unet": {"width": 0.25}}  # fewer numbers to compute, the same layers
ENTRIES = {name: (name, SMALL.get(name, {})) for name, entry in CATALOGUE.items() if entry.task == "segment"}
VARIANTS = ENTRIES | {
    "deeplab_v3, ASPP, stride 8": ("deeplab_v3", {"aspp": True, "output_stride": 8, "width": 0.35}),
    "deeplab_v3, decoder": ("deeplab_v3", {"decoder": 32, "width": 0.35}),
    "unet on MobileNetV2": ("unet", {"backbone": "mobilenet_v2", "batch_norm": True, "width": 0.5}),
}
every_variant = pytest.mark.parametrize("variant", list(VARIANTS))
every_entry = pytest.mark.parametrize("variant", family_first(ENTRIES))
prepared: dict[str, nn.Module] = {}


@pytest.fixture(autouse=True)
def one_thread():
    """Maps this small gain nothing from two, and lose much where others compute beside them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make(variant):
    name, options = VARIANTS[variant]
    return lambda num_classes: build(name, num_classes=num_classes, **options)


@pytest.fixture
def net(variant, make, with_batch_norm_statistics):
    if variant not in prepared:
        net = make(4)
        normed = any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
        prepared[variant] = with_batch_norm_statistics(net) if normed else net.eval()
    return copy.deepcopy(prepared[variant])


@every_variant
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (50, 34)])
def test_logits_have_the_size_of_the_images(net, random_images, size):
    with torch.inference_mode():
        logits = net(random_images(2, height=size[0], width=size[1]))
    assert logits.shape == (2, 4, *size)
    assert logits.isfinite().all()


@every_variant
def test_images_do_not_mix(net, random_images):
    images = random_images(2, height=40, width=40)
    with torch.inference_mode():
        both, alone = net(images), net(images[:1])
    largest = float(both.abs().max())
    assert (both[0] - both[1]).abs().max() > 0.05 * largest  # else nothing could fail
    torch.testing.assert_close(both[:1], alone, rtol=0, atol=1e-3 * largest)  # other batch sizes round otherwise


@every_variant
def test_every_parameter_gets_a_gradient(net, random_images):
    targets = torch.randint(0, 4, (2, 40, 40))
    cross_entropy(net.train()(random_images(2, height=40, width=40)), targets).backward()
    without = [key for key, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


@every_variant
def test_training_and_evaluation_give_the_same_up_to_batch_norm(net, random_images):
    freeze_batch_norm(net, fold=False)
    images = random_images(2, height=40, width=40)
    with torch.no_grad():
        torch.testing.assert_close(net.train()(images), net.eval()(images))


@every_variant
def test_saved_and_loaded_it_answers_alike(make, net, random_images, tmp_path):
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    torch.manual_seed(1)  # other numbers than those of `net`
    other = make(4).eval()
    images = random_images(1, height=40, width=40)
    with torch.inference_mode():
        assert not torch.equal(other(images), net(images))
        other.load_state_dict(load_file(tmp_path / "net.safetensors"))
        assert torch.equal(other(images), net(images))


# To convert a DeepLab takes 20 s; tests/test_tasks.py exports one through the gate.
@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=pytest.mark.slow) if "deeplab" in name else name for name in ENTRIES]
)
def test_exported_and_in_the_runtimes_it_answers_alike(net, random_images, tmp_path):
    """At an odd size, and through torch.export with another number of images."""
    images = random_images(3, height=41, width=56)
    with torch.no_grad():
        expected = net(images)
        batch = torch.export.Dim("batch", min=1, max=64)
        program = torch.export.export(net, (images[:2],), dynamic_shapes=({0: batch},))
        answers = {"torch.export": program.module()(images)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # exporters warn about their own parts
            torch.onnx.export(program, dynamo=True, verbose=False, external_data=False).save(tmp_path / "net.onnx")
            traced = torch.jit.trace(net, images, check_trace=False)
            converted = openvino.convert_model(traced, example_input=images)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    answers["onnx"] = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])
    compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answers["openvino"] = torch.from_numpy(compiled(images.numpy())[0])
    for made in answers.values():
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


@every_variant
def test_the_last_layer_is_the_classifier(net):
    assert net.classifier.out_channels == 4
    assert list(net.state_dict())[-2:] == ["classifier.weight", "classifier.bias"]


@every_entry
def test_it_learns_two_images(make):
    """Halves of other colors, one image cut upright and one across; a net that cannot learn these learns nothing."""
    targets = torch.zeros(2, 32, 32, dtype=torch.long)
    targets[0, :, 16:] = 1
    targets[1, :16] = 1
    images = 0.1 * torch.randn(2, 3, 32, 32) + F.one_hot(targets, 3).movedim(-1, 1)
    net = make(2).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(60):
        logits = net(images)  # in training, as the running statistics are young
        if (logits.argmax(dim=1) == targets).float().mean() > 0.97:
            break
        optimizer.zero_grad()
        cross_entropy(logits, targets).backward()
        optimizer.step()
    else:
        pytest.fail("60 steps were not enough for two images")


@every_entry
def test_the_catalogue_says_how_to_feed_it(variant):
    entry = CATALOGUE[VARIANTS[variant][0]]
    assert entry.scaling in SCALINGS
    with torch.device("meta"):
        size = entry.image_size
        assert build(VARIANTS[variant][0], num_classes=2)(torch.zeros(2, 3, size, size)).shape == (2, 2, size, size)
