import subprocess
import sys

WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None
from perdure.domain.errors import ExtraMissing
from perdure.domain.health import arrival, conformal, deviation, trend
try:
    from perdure.domain.health import residual
except ExtraMissing as error:
    print(error.extra, error.next_step)
"""


def test_without_numpy_the_error_names_the_command_and_the_rest_works() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_NUMPY], capture_output=True, text=True, check=True)
    assert done.stdout == "ml pip install 'perdure[ml]'\n"
