"""Reading the builder's account of an engine."""

from __future__ import annotations

from export.tensorrt.report import read_report
from runtime.bundle import Signature, Tensor

ACCOUNT = """Layers:
Name: shapes, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata: \n\
Name: conv_0, LayerType: correlation, Inputs: [ { Name: images, Dimensions: [-1,2,3,3] }], Metadata: [ONNX Layer: conv][ONNX Layer: relu]
Name: cast_1, LayerType: kgen, Inputs: [ { Name: x } ], Outputs: [], Metadata: [ONNX Layer: node_linear][ONNX Layer: head/Exp_8]
Name: signal_2, LayerType: signal, Inputs: [], Outputs: [], StreamId: 1, Metadata: [ONNX Layer: head/Exp_8]
Name: conc_2, LayerType: kgen, Inputs: [], Outputs: [], StreamId: 0, Metadata: [ONNX Layer: scores]

I/O Tensors:
 Name: images, IOMode: Input, DataType: UInt8, Dimensions: [-1,2,3,3], Location: Device, IsShapeInferenceIO: false, \
ProfileInfo: [ { MinShape: [1,2,3,3], OptShape: [8,2,3,3], MaxShape: [64,2,3,3], Format: Row major }]
 Name: scores, IOMode: Output, DataType: Float, Dimensions: [-1,6], Location: Device, ProfileInfo: [ { Format: Row }]
 Name: accept, IOMode: Output, DataType: Bool, Dimensions: [-1], Location: Device, ProfileInfo: [ { Format: Row }]
"""  # noqa: E501  # as it is printed


def test_reads_tensors_profile_and_layers() -> None:
    report = read_report(["something", ACCOUNT.replace("-1,6", "-1,5"), "else", ACCOUNT, "end"])
    assert report is not None
    assert report.signature == Signature(
        {"images": Tensor("uint8", (None, 2, 3, 3))},
        {"scores": Tensor("float32", (None, 6)), "accept": Tensor("bool", (None,))},
        None,
        built=True,
    )
    assert report.batches == (1, 8, 64)
    assert [(layer.name, layer.kind, layer.is_head) for layer in report.layers] == [
        ("conv_0", "correlation", False),
        ("cast_1", "kgen", True),
        ("conc_2", "kgen", True),
    ]
    assert report.layers[0].sources == ("conv", "relu")
    assert report.head == report.layers[1:]


def test_a_log_without_an_account_is_none() -> None:
    assert read_report(["Layers: 5", "I/O Tensors:"]) is None
