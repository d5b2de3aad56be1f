"""Tables, plots and a page of what a study recorded: values in, files out."""

from fedjax_ecgr.reports.results import Results, by_member, having, merge, only, read
from fedjax_ecgr.reports.scores import SCORES, Score, scores
from fedjax_ecgr.reports.study import Study, study
from fedjax_ecgr.reports.tuning import Tuned, tune

__all__ = [
    "SCORES",
    "Results",
    "Score",
    "Study",
    "Tuned",
    "by_member",
    "having",
    "merge",
    "only",
    "read",
    "scores",
    "study",
    "tune",
]
