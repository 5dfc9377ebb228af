"""A trained model of failures, as it is kept: plain arrays without pickles, under a hash, and refused when anything is off."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perdure.domain.errors import ModelUnusable
from perdure.domain.health.arrays import Floats, NDArray, np
from perdure.domain.health.features import FEATURES, FEATURES_HASH
from perdure.domain.health.hazard import HazardModel
from perdure.domain.health.network import Layer, Network

FORMAT = 1
BYTES_MAX = 4 << 20
LAYERS_MAX = 8
STEPS = (6, 30, 90, 360, 1440, 8640, 60480)
"""The ends of the intervals of time, in samples: at ten seconds 1, 5, 15 and 60 minutes, 4 hours, a day and a week."""


@dataclass(frozen=True, slots=True)
class FailureModel:
    """A hazard model over the features of workers that write a sample every `interval_s`; `cuts` and `shares` tell what it had learnt from."""

    hazard: HazardModel
    interval_s: float
    cuts: Floats
    shares: Floats

    def probability(self, rows: Floats, within_s: float) -> Floats:
        return self.hazard.predict(rows, within_s)


def encode(model: FailureModel) -> bytes:
    """The model as bytes; the same model gives the same bytes."""
    hazard = model.hazard
    about = {"format": FORMAT, "features": FEATURES_HASH, "interval_s": model.interval_s}
    arrays: dict[str, NDArray[Any]] = {
        "about": np.frombuffer(json.dumps(about, sort_keys=True).encode(), dtype=np.uint8),
        "edges": hazard.edges,
        "center": hazard.center,
        "scale": hazard.scale,
        "mending": np.array([hazard.slope, hazard.offset]),
        "cuts": model.cuts,
        "shares": model.shares,
    }
    for number, layer in enumerate(hazard.network.layers):
        arrays[f"weights{number}"], arrays[f"offsets{number}"] = layer.parts
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def hash_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def decode(body: bytes, *, sha256: str, interval_s: float, name: object) -> FailureModel:
    """The model of these bytes. Raises ModelUnusable for one that was changed, is damaged, or is of another system."""
    if hash_of(body) != sha256:
        raise ModelUnusable(name, "its bytes are not those that were stored: their hash is another")
    try:
        arrays = _arrays(body)
        about = json.loads(arrays["about"].tobytes())
        _require_ours(about, interval_s, name)
        model = _model(arrays, interval_s)
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ModelUnusable(name, f"it cannot be read: {error}") from None
    if fault := _fault(model):
        raise ModelUnusable(name, fault)
    return model


def _arrays(body: bytes) -> Mapping[str, Floats]:
    """The arrays; none that needs unpickling, and not more bytes than a model has."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        if sum(one.file_size for one in archive.infolist()) > BYTES_MAX:
            raise ValueError("it is larger than a model can be")
    with np.load(io.BytesIO(body), allow_pickle=False) as found:
        return {key: found[key] for key in found.files}


def _require_ours(about: object, interval_s: float, name: object) -> None:
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ModelUnusable(name, "it has another format; this version cannot read it")
    if about.get("features") != FEATURES_HASH:
        raise ModelUnusable(name, "it was trained on other features than this version computes")
    if about.get("interval_s") != interval_s:
        raise ModelUnusable(
            name,
            f"it was trained on samples every {about.get('interval_s')} s, and they are taken every {interval_s:g} s",
        )


def _model(arrays: Mapping[str, Floats], interval_s: float) -> FailureModel:
    layers = tuple(
        Layer(arrays[f"weights{number}"], arrays[f"offsets{number}"])
        for number in range(LAYERS_MAX)
        if f"weights{number}" in arrays
    )
    slope, offset = (float(one) for one in arrays["mending"])
    hazard = HazardModel(
        arrays["edges"], arrays["center"], arrays["scale"], Network(layers), slope=slope, offset=offset
    )
    return FailureModel(hazard, interval_s, arrays["cuts"], arrays["shares"])


def _fault(model: FailureModel) -> str:
    """What makes the arrays no model, in words; empty when they are one."""
    hazard = model.hazard
    layers = hazard.network.layers
    arrays = [hazard.edges, hazard.center, hazard.scale, model.cuts, model.shares]
    arrays += [part for layer in layers for part in layer.parts]
    if any(one.dtype != np.float64 or not np.isfinite(one).all() for one in arrays):
        return "it holds values that are no finite numbers"
    if not np.isfinite([hazard.slope, hazard.offset]).all():
        return "it holds values that are no finite numbers"
    if hazard.edges.ndim != 1 or not (np.diff(hazard.edges, prepend=0.0) > 0).all():
        return "its intervals of time do not rise"
    width = len(FEATURES)
    if hazard.center.shape != (width,) or hazard.scale.shape != (width,) or not (hazard.scale > 0).all():
        return "its scales do not fit the features"
    if model.cuts.shape != (9, width) or model.shares.shape != (10, width):
        return "its picture of the features does not fit them"
    return "" if _fits(layers, width, len(hazard.edges)) else "its layers do not fit each other"


def _fits(layers: tuple[Layer, ...], inputs: int, outputs: int) -> bool:
    if not layers or layers[0].weights.ndim != 3:
        return False
    members = len(layers[0].weights)
    for layer in layers:
        if layer.weights.ndim != 3 or layer.weights.shape[:2] != (members, inputs):
            return False
        inputs = layer.weights.shape[2]
        if layer.offsets.shape != (members, 1, inputs):
            return False
    return members > 0 and inputs == outputs
