"""The command line in a checkout: ``python launch.py COMMAND``, as ``salt-ray COMMAND`` where it is installed."""

from salt_ray.cli.main import main

if __name__ == "__main__":
    main()
