//! The messages of ONNX that a policy needs; field numbers from the format's `onnx.proto` (IR version 8).

use prost::{Message, Oneof};

/// The file.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    /// Version of the format.
    #[prost(int64, tag = 1)]
    pub ir_version: i64,
    /// Who wrote it.
    #[prost(string, tag = 2)]
    pub producer_name: String,
    /// In which version.
    #[prost(string, tag = 3)]
    pub producer_version: String,
    /// What it computes.
    #[prost(message, optional, tag = 7)]
    pub graph: Option<Graph>,
    /// What its operations mean.
    #[prost(message, repeated, tag = 8)]
    pub opset_import: Vec<OperatorSet>,
    /// Anything else.
    #[prost(message, repeated, tag = 14)]
    pub metadata: Vec<Entry>,
}

/// A version of the operations.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    /// Empty for ONNX's own.
    #[prost(string, tag = 1)]
    pub domain: String,
    /// Its version.
    #[prost(int64, tag = 2)]
    pub version: i64,
}

/// A key and its value.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// The key.
    #[prost(string, tag = 1)]
    pub key: String,
    /// The value.
    #[prost(string, tag = 2)]
    pub value: String,
}

/// A computation.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// In an order in which they can be done.
    #[prost(message, repeated, tag = 1)]
    pub node: Vec<Node>,
    /// Its name.
    #[prost(string, tag = 2)]
    pub name: String,
    /// Constants.
    #[prost(message, repeated, tag = 5)]
    pub initializer: Vec<Tensor>,
    /// What the caller gives.
    #[prost(message, repeated, tag = 11)]
    pub input: Vec<ValueInfo>,
    /// What the caller gets.
    #[prost(message, repeated, tag = 12)]
    pub output: Vec<ValueInfo>,
}

/// An operation.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Names of its arguments.
    #[prost(string, repeated, tag = 1)]
    pub input: Vec<String>,
    /// Names of its results.
    #[prost(string, repeated, tag = 2)]
    pub output: Vec<String>,
    /// Which operation.
    #[prost(string, tag = 4)]
    pub op_type: String,
    /// Its settings.
    #[prost(message, repeated, tag = 5)]
    pub attribute: Vec<Attribute>,
}

/// A setting of an operation.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// Its name.
    #[prost(string, tag = 1)]
    pub name: String,
    /// Where `kind` is [`Attribute::FLOAT`].
    #[prost(float, optional, tag = 2)]
    pub f: Option<f32>,
    /// Where `kind` is [`Attribute::INT`].
    #[prost(int64, optional, tag = 3)]
    pub i: Option<i64>,
    /// Where `kind` is [`Attribute::INTS`].
    #[prost(int64, repeated, packed = "false", tag = 8)]
    pub ints: Vec<i64>,
    /// Which of the above.
    #[prost(int32, tag = 20)]
    pub kind: i32,
}

impl Attribute {
    /// A number.
    pub const FLOAT: i32 = 1;
    /// An integer.
    pub const INT: i32 = 2;
    /// Integers.
    pub const INTS: i32 = 7;
}

/// Numbers.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// Shape.
    #[prost(int64, repeated, packed = "false", tag = 1)]
    pub dims: Vec<i64>,
    /// [`FLOAT`] or [`INT64`].
    #[prost(int32, tag = 2)]
    pub data_type: i32,
    /// Its name.
    #[prost(string, tag = 8)]
    pub name: String,
    /// Elements, little-endian, row-major.
    #[prost(bytes = "vec", tag = 9)]
    pub raw_data: Vec<u8>,
}

/// 32-bit floats.
pub const FLOAT: i32 = 1;
/// 64-bit signed integers.
pub const INT64: i32 = 7;

/// Something that the caller gives or gets.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    /// Its name.
    #[prost(string, tag = 1)]
    pub name: String,
    /// What it is.
    #[prost(message, optional, tag = 2)]
    pub value_type: Option<Type>,
}

/// What a value is.
#[derive(Clone, PartialEq, Message)]
pub struct Type {
    /// A tensor, always.
    #[prost(message, optional, tag = 1)]
    pub tensor: Option<TensorType>,
}

/// What a tensor is.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// [`FLOAT`] or [`INT64`].
    #[prost(int32, tag = 1)]
    pub elem_type: i32,
    /// Its shape.
    #[prost(message, optional, tag = 2)]
    pub shape: Option<Shape>,
}

/// A shape that is known in parts.
#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    /// Its dimensions.
    #[prost(message, repeated, tag = 1)]
    pub dim: Vec<Dimension>,
}

/// A dimension.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// How long it is.
    #[prost(oneof = "Extent", tags = "1, 2")]
    pub extent: Option<Extent>,
}

/// How long a dimension is.
#[derive(Clone, PartialEq, Oneof)]
pub enum Extent {
    /// Always so long.
    #[prost(int64, tag = 1)]
    Fixed(i64),
    /// As long as everything else of that name.
    #[prost(string, tag = 2)]
    Named(String),
}
