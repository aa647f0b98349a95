"""Fields and their data types: ``from penstock.types import Field, Float64, String, Timestamp``."""

from penstock.core.types import (
    Array,
    Bool,
    DataType,
    Field,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    Timestamp,
)

__all__ = [
    "Array",
    "Bool",
    "DataType",
    "Field",
    "Float32",
    "Float64",
    "Int32",
    "Int64",
    "String",
    "Timestamp",
]
