"""Variables that Ray reads when it is imported: whoever imports Ray here imports this first."""

from __future__ import annotations

import os

# Workers inherit the environment of a local Ray, and get it through the runtime environment on a cluster.
ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",  # how soon an end or a death is noticed: 2 s by default
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # workers' prints would appear twice
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # the dashboard's API lists the runs by name
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # trials are logged as folds are, and remembered by the study
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends a search as it ends everything else; it can resume from there
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the study has every reason, and the terminal one line of it
    "TUNE_WARN_THRESHOLD_S": "30",  # it would complain whenever the cores are busy with training
    "RAY_AIR_NEW_OUTPUT": "0",  # the terminal shows our own table
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths stay true in workers
    "RAY_USAGE_STATS_ENABLED": "0",
    # Every fold has half a dozen small processes; from four times this number on, Ray warns about them. Default: cores.
    "RAY_worker_maximum_startup_concurrency": str(max(8, os.cpu_count() or 1)),
    # How soon a task on a machine that has lost its network is given to another one: 43 s instead of 420.
    "RAY_grpc_client_keepalive_time_ms": "15000",
    "RAY_grpc_client_keepalive_timeout_ms": "15000",
    "RAY_worker_niceness": "0",  # 15 by default: on a busy CPU training would yield to everything else
    "NO_ALBUMENTATIONS_UPDATE": "1",
}
# A local Ray has the address 127.0.0.1 and listens there alone. Ray has no option for it, and ray.init takes the
# machine's own address for a loopback one; but this switch makes it do here what it does on macOS and Windows. Not in
# ENVIRONMENT, because the nodes of a cluster need their real addresses; joining one is as ever.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Nobody drains a local Ray's node: of two folds' processes two need not start. On a cluster this reaches no worker.
UNDRAINED = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
# How long a local Ray may take to come up: 30 s by default, which a machine with busy cores does not always keep.
PATIENCE = "RAY_raylet_start_wait_time_s"
for _name, _value in (ENVIRONMENT | LOOPBACK | UNDRAINED | {PATIENCE: "180"}).items():
    os.environ.setdefault(_name, _value)
