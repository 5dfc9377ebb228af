"""Types of arguments that handlers in tests take."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import NamedTuple, TypedDict

import msgspec
import pydantic


class Colour(Enum):
    RED = 1
    BLUE = 2


class Unit(StrEnum):
    PIXEL = "px"
    POINT = "pt"


@dataclass(frozen=True)
class Size:
    width: int
    unit: Unit | None = None


class Box(msgspec.Struct):
    size: Size
    tags: list[str] = []


class Options(TypedDict, total=False):
    crop: bool
    scale: float


class Point(NamedTuple):
    x: int
    y: int = 0


class Photo(pydantic.BaseModel):
    taken: datetime
    price: Decimal
    caption: str = pydantic.Field(default="", alias="Caption")
