# The image of salt-ray's nodes: Ray's own GPU image, and salt-ray's dependencies in the versions of constraints.txt.
#
#   docker build --tag REGISTRY/salt-ray:0.2.0 .          # in the project's folder; 10 GB, most of it CUDA
#   docker run --rm --gpus all --shm-size 8g --volume /path/to/tiles:/data:ro --volume /path/to/runs:/runs \
#       REGISTRY/salt-ray:0.2.0 python launch.py pipeline --data /data --run-dir /runs/first
#
# cluster.yaml works without it, and starts nodes faster with it: see there. PyTorch's wheels bring CUDA's libraries;
# the machine brings NVIDIA's driver and container toolkit.
FROM rayproject/ray:2.60.0-py311-gpu

# The base image's own user, uid 1000: nothing of ours needs root.
USER 1000

# Gigabytes that change only with a version: before the code, and of the project only the files that decide them.
COPY --chown=1000:100 pyproject.toml constraints.txt docker/install.sh /home/ray/install/
RUN bash /home/ray/install/install.sh /home/ray/install /home/ray/salt-ray-env
# matplotlib keeps a cache of fonts; a home that is mounted read-only has no place for it.
ENV PATH=/home/ray/salt-ray-env/bin:$PATH \
    MPLCONFIGDIR=/tmp/matplotlib

# For commands in the container itself. On a cluster the code travels with each job, and this copy is not used.
WORKDIR /home/ray/salt-ray
COPY --chown=1000:100 . .
RUN python docker/smoke.py --cuda

CMD ["python", "launch.py", "--help"]
