"""New jobs from one line of fields, as tests like to write them."""

from typing import Any

from perdure.domain.job import NewJob, Shape

SHARED = Shape.__struct_fields__


def job_of(**fields: Any) -> NewJob:
    """A job with these fields, whether they are of its shape or its own."""
    shared = {name: value for name, value in fields.items() if name in SHARED}
    own = {name: value for name, value in fields.items() if name not in SHARED}
    return NewJob(shape=Shape(**shared), **own)
