"""``python -m salt_ray COMMAND``, as ``salt-ray COMMAND``."""

from salt_ray.cli.main import main

if __name__ == "__main__":
    main()
