"""Everything that each worker needs, imported once by the server that workers are forked from; it holds no code."""

import importlib.metadata
import json

import ml_dtypes
import numpy as np
import numpy.linalg
import pebble.pool.process
import threadpoolctl

import ww_static.tasks

__all__ = ["importlib", "json", "ml_dtypes", "np", "numpy", "pebble", "threadpoolctl", "ww_static"]
