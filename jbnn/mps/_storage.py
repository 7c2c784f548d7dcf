"""What of a data source is not an array, as bytes: with it exported programs that take a source can be stored."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from jbnn.mps._descriptor import BatchNormalization, ConvolutionDescriptor
from jbnn.mps._enums import DataType, WeightsQuantizationType
from jbnn.mps._neuron import NeuronDescriptor

StaticFields = tuple[ConvolutionDescriptor, DataType, WeightsQuantizationType]


def dump(fields: StaticFields) -> bytes:
    """The static fields of an `ArrayDataSource`, in their order. JSON holds each float exactly."""
    descriptor, data_type, quantization = fields
    return json.dumps([dataclasses.asdict(descriptor), data_type, quantization]).encode()


def load(stored: bytes | bytearray) -> StaticFields:
    """The same again."""
    descriptor, data_type, quantization = json.loads(stored)
    norm = descriptor["batch_normalization"]
    parts: dict[str, Any] = {
        "fused_neuron": NeuronDescriptor(**descriptor["fused_neuron"]),
        "batch_normalization": None if norm is None else BatchNormalization(**norm),
    }
    return ConvolutionDescriptor(**descriptor | parts), DataType(data_type), WeightsQuantizationType(quantization)
