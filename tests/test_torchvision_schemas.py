"""torchvision_schemas: timm can be imported next to a torch that cannot load torchvision's C++ library."""

import subprocess
import sys

import torch

from salt_ray import torchvision_schemas

FRESH_PROCESS = """
import sys
import torch
from salt_ray import torchvision_schemas

load_library = torch.ops.load_library
torch.ops.load_library = lambda path: None  # as where the C++ library loads
torchvision_schemas.declare()
assert not hasattr(torch.ops.torchvision, "nms"), "declared although the library loads"

torch.ops.load_library = load_library
torchvision_schemas.declare()
torchvision_schemas.declare()
assert "torchvision" not in sys.modules, "left a torchvision behind that nobody asked for"

import timm
assert timm.is_model("resnet18")
"""


def test_timm_is_importable_in_a_fresh_process():
    run = subprocess.run([sys.executable, "-c", FRESH_PROCESS], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr


def test_the_operators_stay_declared():
    torchvision_schemas.declare()
    for operator in torchvision_schemas.OPERATORS:
        assert "float iou_threshold" in str(getattr(torch.ops.torchvision, operator).default._schema)
