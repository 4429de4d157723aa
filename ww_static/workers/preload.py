"""Everything that each worker needs, imported once by the server that workers are forked from."""

import importlib.metadata
import json
import os

import ml_dtypes
import numpy as np
import numpy.linalg
import pebble.pool.process
import threadpoolctl

import ww_static.measuring.analysis
import ww_static.workers.tasks

__all__ = ["importlib", "json", "ml_dtypes", "np", "numpy", "os", "pebble", "threadpoolctl", "ww_static"]

if os.environ.get("WW_STATIC_QUIET_SERVER"):  # the command line's own server; another's may serve a caller too
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what it says of workers that came too late is for nobody
