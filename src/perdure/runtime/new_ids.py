"""The ids of new jobs: one source for all of a process, so that they rise in it however jobs are enqueued."""

import os
import time

from perdure.domain.ids import JobIds

_IDS = JobIds(time.time_ns, os.urandom)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_IDS.renew)

new_id = _IDS.__call__
"""A job id, for all threads of this process, drawn from the system's randomness."""

new_ids = _IDS.many
"""As so many of `new_id`, made together."""
