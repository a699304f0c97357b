"""Imports everything of salt-ray: what an installation lacks shows when it is made, not after an hour of training.

python docker/smoke.py [--cuda]     --cuda: also refuse a PyTorch that was built without CUDA
"""

import importlib
import pkgutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project itself is not installed


def main(needs_cuda: bool) -> None:
    import torch

    if needs_cuda and not torch.backends.cuda.is_built():
        sys.exit(f"PyTorch {torch.__version__} has no CUDA: install it from a package index that serves CUDA builds")
    import ray

    import salt_ray

    importlib.import_module("launch")
    modules = [module.name for module in pkgutil.walk_packages(salt_ray.__path__, "salt_ray.")]
    for name in modules:
        importlib.import_module(name)
    cuda = torch.version.cuda or "none"
    print(f"{len(modules)} modules of salt-ray, Ray {ray.__version__}, PyTorch {torch.__version__}, CUDA {cuda}")


if __name__ == "__main__":
    main(needs_cuda="--cuda" in sys.argv[1:])
