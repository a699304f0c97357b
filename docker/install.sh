#!/usr/bin/env bash
# Installs what salt-ray needs, in the versions of constraints.txt, into a virtual environment of its own.
#
#   install.sh SOURCE ENVIRONMENT     SOURCE holds pyproject.toml and constraints.txt
#
# The image (Dockerfile) and nodes that run without it (cluster.yaml) are set up by this one script. The packages of
# the base image are left alone: they have versions of their own, and their environment is conda's.
# The stamp is written last: an interrupted installation is taken up again, a finished one is kept.
set -euo pipefail
source_folder=${1:?usage: install.sh SOURCE ENVIRONMENT} environment=${2:?usage: install.sh SOURCE ENVIRONMENT}

stamp=$(cat "$source_folder/pyproject.toml" "$source_folder/constraints.txt" "$0" | sha256sum)
if [ "$(cat "$environment/installed" 2> /dev/null)" = "$stamp" ]; then
    echo "salt-ray: $environment is up to date"
    exit 0
fi

# The project itself is left out: its code comes with every job, so a change of it needs no new installation.
# aws: the head's autoscaler talks to EC2. weights: a node need not reach the hub from which timm gets them.
requirements=$(mktemp)
trap 'rm -f "$requirements"' EXIT
python3 - "$source_folder/pyproject.toml" > "$requirements" << 'PYTHON'
import sys, tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *extras["aws"], *extras["weights"], sep="\n")
PYTHON

python3 -m venv "$environment"
# No cache: it would double the layer, and a node installs once.
"$environment/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check \
    --constraint "$source_folder/constraints.txt" --requirement "$requirements"
echo "$stamp" > "$environment/installed"
echo "salt-ray: installed into $environment"
