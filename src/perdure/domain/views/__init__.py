"""What the reading and the acting services answer: the types that every face renders, as JSON by msgspec.

JSON of the user (arguments, results, metadata) stays the database's text, as `msgspec.Raw`, so that no number is
rounded on its way.
"""

from perdure.domain.views.acts import CHANGES, Acted, ActOutcome, ActReport
from perdure.domain.views.jobs import (
    EMPTY,
    AttemptView,
    DeadLetterPage,
    DeadLetterView,
    EdgeState,
    EdgeView,
    EventView,
    GroupView,
    JobDetail,
    JobPage,
    JobView,
    LeaseView,
    PlaceView,
    ProgressView,
    ResultView,
)
from perdure.domain.views.system import (
    CountView,
    EpochView,
    ForgottenView,
    LaneView,
    LeaderView,
    QueueView,
    RateView,
    StatusView,
    WorkerView,
)

__all__ = [
    "CHANGES",
    "EMPTY",
    "ActOutcome",
    "ActReport",
    "Acted",
    "AttemptView",
    "CountView",
    "DeadLetterPage",
    "DeadLetterView",
    "EdgeState",
    "EdgeView",
    "EpochView",
    "EventView",
    "ForgottenView",
    "GroupView",
    "JobDetail",
    "JobPage",
    "JobView",
    "LaneView",
    "LeaderView",
    "LeaseView",
    "PlaceView",
    "ProgressView",
    "QueueView",
    "RateView",
    "ResultView",
    "StatusView",
    "WorkerView",
]
