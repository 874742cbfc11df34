//! The ONNX protobuf messages that a policy needs. The field numbers are those of `onnx.proto` (IR version 8).

use prost::{Message, Oneof};

/// A model, the content of a file.
#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    /// IR version of the format.
    #[prost(int64, tag = 1)]
    pub ir_version: i64,
    /// Name of the program that wrote the file.
    #[prost(string, tag = 2)]
    pub producer_name: String,
    /// Version of that program.
    #[prost(string, tag = 3)]
    pub producer_version: String,
    /// The computation.
    #[prost(message, optional, tag = 7)]
    pub graph: Option<GraphProto>,
    /// Versions of the operator sets that the graph uses.
    #[prost(message, repeated, tag = 8)]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// Custom metadata.
    #[prost(message, repeated, tag = 14)]
    pub metadata: Vec<StringStringEntryProto>,
}

/// Version of an operator set.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    /// Domain of the operators. Empty for ONNX's own operators.
    #[prost(string, tag = 1)]
    pub domain: String,
    /// Version of the operator set.
    #[prost(int64, tag = 2)]
    pub version: i64,
}

/// A key and its value.
#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    /// The key.
    #[prost(string, tag = 1)]
    pub key: String,
    /// The value.
    #[prost(string, tag = 2)]
    pub value: String,
}

/// A computation.
#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    /// Nodes, in an order in which they can be executed.
    #[prost(message, repeated, tag = 1)]
    pub node: Vec<NodeProto>,
    /// Name of the graph.
    #[prost(string, tag = 2)]
    pub name: String,
    /// Constant tensors.
    #[prost(message, repeated, tag = 5)]
    pub initializer: Vec<TensorProto>,
    /// Inputs from the caller.
    #[prost(message, repeated, tag = 11)]
    pub input: Vec<ValueInfoProto>,
    /// Outputs for the caller.
    #[prost(message, repeated, tag = 12)]
    pub output: Vec<ValueInfoProto>,
}

/// A node, which applies one operator.
#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    /// Names of the arguments.
    #[prost(string, repeated, tag = 1)]
    pub input: Vec<String>,
    /// Names of the results.
    #[prost(string, repeated, tag = 2)]
    pub output: Vec<String>,
    /// Name of the operator.
    #[prost(string, tag = 4)]
    pub op_type: String,
    /// Attributes of the operator.
    #[prost(message, repeated, tag = 5)]
    pub attribute: Vec<AttributeProto>,
}

/// An attribute of an operator.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    /// Name of the attribute.
    #[prost(string, tag = 1)]
    pub name: String,
    /// Value if `kind` is [`AttributeProto::FLOAT`].
    #[prost(float, optional, tag = 2)]
    pub f: Option<f32>,
    /// Value if `kind` is [`AttributeProto::INT`].
    #[prost(int64, optional, tag = 3)]
    pub i: Option<i64>,
    /// Value if `kind` is [`AttributeProto::INTS`].
    #[prost(int64, repeated, packed = "false", tag = 8)]
    pub ints: Vec<i64>,
    /// Type of the value.
    #[prost(int32, tag = 20)]
    pub kind: i32,
}

impl AttributeProto {
    /// Kind of a float attribute.
    pub const FLOAT: i32 = 1;
    /// Kind of an integer attribute.
    pub const INT: i32 = 2;
    /// Kind of an attribute that is a list of integers.
    pub const INTS: i32 = 7;
}

/// A tensor of constants.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    /// Shape of the tensor.
    #[prost(int64, repeated, packed = "false", tag = 1)]
    pub dims: Vec<i64>,
    /// Element type, [`FLOAT`] or [`INT64`].
    #[prost(int32, tag = 2)]
    pub data_type: i32,
    /// Name of the tensor.
    #[prost(string, tag = 8)]
    pub name: String,
    /// Elements, little-endian, row-major.
    #[prost(bytes = "vec", tag = 9)]
    pub raw_data: Vec<u8>,
}

/// Element type of 32-bit floats.
pub const FLOAT: i32 = 1;
/// Element type of 64-bit signed integers.
pub const INT64: i32 = 7;

/// An input or output of the graph.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    /// Name of the value.
    #[prost(string, tag = 1)]
    pub name: String,
    /// Type of the value.
    #[prost(message, optional, tag = 2)]
    pub value_type: Option<TypeProto>,
}

/// Type of a value.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    /// Tensor type. It is always present here.
    #[prost(message, optional, tag = 1)]
    pub tensor: Option<TensorTypeProto>,
}

/// Type of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    /// Element type, [`FLOAT`] or [`INT64`].
    #[prost(int32, tag = 1)]
    pub elem_type: i32,
    /// Shape of the tensor.
    #[prost(message, optional, tag = 2)]
    pub shape: Option<TensorShapeProto>,
}

/// Shape of a tensor, whose dimensions may be symbolic.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    /// Dimensions, in order.
    #[prost(message, repeated, tag = 1)]
    pub dim: Vec<Dimension>,
}

/// One dimension.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// Size of the dimension.
    #[prost(oneof = "Extent", tags = "1, 2")]
    pub extent: Option<Extent>,
}

/// Size of a dimension.
#[derive(Clone, PartialEq, Oneof)]
pub enum Extent {
    /// A fixed size.
    #[prost(int64, tag = 1)]
    Fixed(i64),
    /// A symbolic size. All dimensions with the same name have the same size.
    #[prost(string, tag = 2)]
    Named(String),
}
