"""Runs, trials, models and versions in MLflow.

With inference.py the only code that imports MLflow. Nothing here uses MLflow's active run; the one
global that is set is the address of the store, so that `models:/` means the store that was opened.
"""

from pipeline.tracking.connection import connect, quiet
from pipeline.tracking.final_log import FinalLog
from pipeline.tracking.history import LoggedTrial, curves_of, trials_of, with_history
from pipeline.tracking.lease import Lease
from pipeline.tracking.lineage import DataSet
from pipeline.tracking.param_text import decode_param, encode_param
from pipeline.tracking.registry import Version, downloaded, find_version, register, set_alias
from pipeline.tracking.retention import delete_models
from pipeline.tracking.runs import Run, Stage
from pipeline.tracking.searches import SearchRun, searches
from pipeline.tracking.store import Store
from pipeline.tracking.trial_log import Logged, TrialLog
from pipeline.tracking.writer import Writer

__all__ = [
    "DataSet",
    "FinalLog",
    "Lease",
    "Logged",
    "LoggedTrial",
    "Run",
    "SearchRun",
    "Stage",
    "Store",
    "TrialLog",
    "Version",
    "Writer",
    "connect",
    "curves_of",
    "decode_param",
    "delete_models",
    "downloaded",
    "encode_param",
    "find_version",
    "quiet",
    "register",
    "searches",
    "set_alias",
    "trials_of",
    "with_history",
]
