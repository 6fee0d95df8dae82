"""Who judges which task."""

from __future__ import annotations

from collections.abc import Mapping

from .depth import DepthJudge
from .judge import Judge
from .objects import InstanceJudge, PanopticJudge, VideoJudge
from .semantic import SemanticJudge

JUDGES: Mapping[str, type[Judge]] = {
    judge.task: judge for judge in (SemanticJudge, PanopticJudge, InstanceJudge, VideoJudge, DepthJudge)
}
"""By task."""
