//! Encodes a [`Graph`] as an ONNX file with operator set 17, which `onnxruntime` and most robotics runtimes read.

use super::graph::{Graph, Map, Node, Op, Zip};
use super::proto::{
    self, AttributeProto, Dimension, Extent, FLOAT, INT64, TensorProto, TensorShapeProto,
};
use prost::Message as _;

/// ONNX IR version. onnxruntime 1.12 (2022) and later read it.
const IR_VERSION: i64 = 8;
/// Version of the operator set: the first one with `LayerNormalization`.
const OPERATORS: i64 = 17;
/// Name of the dimension whose size the caller chooses.
const ROWS: &str = "N";

/// Returns the bytes of the file. `metadata` becomes the custom metadata of the model.
pub fn encode(graph: &Graph, metadata: &[(&str, String)]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.initializers.extend(graph.constants().map(|constant| {
        let bytes = constant.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensor(&constant.name, &constant.shape, FLOAT, bytes)
    }));
    for (name, node) in graph.steps() {
        let args: Vec<String> = node.args.iter().map(|&arg| graph.name(arg)).collect();
        writer.step(&name, node, &args);
    }
    let input = |(name, width)| value_info(name, FLOAT, Some(width));
    let output = |output: &super::graph::Output| {
        value_info(output.name, if output.width.is_some() { FLOAT } else { INT64 }, output.width)
    };
    let entry = |(key, value): &(&str, String)| proto::StringStringEntryProto {
        key: (*key).to_owned(),
        value: value.clone(),
    };
    proto::ModelProto {
        ir_version: IR_VERSION,
        producer_name: "sapex".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(proto::GraphProto {
            node: writer.nodes,
            name: "policy".to_owned(),
            initializer: writer.initializers,
            input: graph.inputs().map(input).collect(),
            output: graph.outputs.iter().map(output).collect(),
        }),
        opset_import: vec![proto::OperatorSetIdProto { domain: String::new(), version: OPERATORS }],
        metadata: metadata.iter().map(entry).collect(),
    }
    .encode_to_vec()
}

#[derive(Debug, Default)]
struct Writer {
    nodes: Vec<proto::NodeProto>,
    initializers: Vec<TensorProto>,
}

impl Writer {
    /// Encodes one operation as one or more ONNX nodes.
    fn step(&mut self, name: &str, node: &Node, args: &[String]) {
        match &node.op {
            Op::Input { .. } | Op::Constant(_) => unreachable!("given, not computed"),
            Op::Linear => self.node("Gemm", args, name, vec![int("transB", 1)]),
            Op::Conv { stride } => {
                let strides = ints("strides", &[*stride, *stride]);
                self.node("Conv", args, name, vec![strides]);
            }
            Op::LayerNorm { epsilon, .. } => {
                let attributes = vec![int("axis", -1), float("epsilon", *epsilon)];
                self.node("LayerNormalization", args, name, attributes);
            }
            Op::Map(map) => self.map(*map, args, name),
            Op::Zip(zip) => {
                let op = match zip {
                    Zip::Add => "Add",
                    Zip::Sub => "Sub",
                    Zip::Mul => "Mul",
                    Zip::Div => "Div",
                };
                self.node(op, args, name, vec![]);
            }
            Op::Softmax => self.node("Softmax", args, name, vec![int("axis", 1)]),
            Op::Clamp { min, max } => {
                let bounds = [("min", min), ("max", max)].map(|(which, bound)| {
                    self.given(format!("{name}.{which}"), &[], FLOAT, bound.to_le_bytes().to_vec())
                });
                self.node("Clip", &[args, &bounds].concat(), name, vec![]);
            }
            Op::Columns { start, width } => {
                let range = [("start", *start), ("end", start + width), ("axis", 1)].map(
                    |(which, number)| self.numbers(&format!("{name}.{which}"), &[signed(number)]),
                );
                self.node("Slice", &[args, &range].concat(), name, vec![]);
            }
            Op::Concat => self.node("Concat", args, name, vec![int("axis", 1)]),
            Op::Reshape { dims } => self.reshape(&args[0], dims, name),
            Op::RepeatRows { times, width } => {
                let (apart, repeated) = (format!("{name}.apart"), format!("{name}.repeated"));
                self.reshape(&args[0], &[1, *width], &apart);
                let times = self.numbers(&format!("{name}.times"), &[1, signed(*times), 1]);
                self.node("Tile", &[apart, times], &repeated, vec![]);
                self.reshape(&repeated, &[*width], name);
            }
            Op::ArgMax => {
                self.node("ArgMax", args, name, vec![int("axis", 1), int("keepdims", 0)]);
            }
            Op::Pick { .. } => {
                let index = format!("{name}.index");
                self.reshape(&args[1], &[1], &index);
                let args = [args[0].clone(), index];
                self.node("GatherND", &args, name, vec![int("batch_dims", 1)]);
            }
        }
    }

    fn map(&mut self, map: Map, args: &[String], name: &str) {
        let (op, attributes) = match map {
            Map::Relu => ("Relu", vec![]),
            Map::Tanh => ("Tanh", vec![]),
            Map::Sigmoid => ("Sigmoid", vec![]),
            Map::Elu => ("Elu", vec![float("alpha", 1.0)]),
            Map::LeakyRelu => ("LeakyRelu", vec![float("alpha", 0.01)]),
            Map::Softplus => ("Softplus", vec![]),
            Map::Erf => ("Erf", vec![]),
            Map::Exp => ("Exp", vec![]),
            Map::Abs => ("Abs", vec![]),
            Map::Neg => ("Neg", vec![]),
            Map::Sign => ("Sign", vec![]),
        };
        self.node(op, args, name, attributes);
    }

    /// Reshapes to (rows, dims). The number of rows follows from the number of elements.
    fn reshape(&mut self, x: &str, dims: &[usize], name: &str) {
        let shape: Vec<i64> = std::iter::once(-1).chain(dims.iter().map(|&d| signed(d))).collect();
        let shape = self.numbers(&format!("{name}.shape"), &shape);
        self.node("Reshape", &[x.to_owned(), shape], name, vec![]);
    }

    fn node(&mut self, op: &str, input: &[String], output: &str, attribute: Vec<AttributeProto>) {
        self.nodes.push(proto::NodeProto {
            input: input.to_vec(),
            output: vec![output.to_owned()],
            op_type: op.to_owned(),
            attribute,
        });
    }

    /// Adds a vector of integers as a constant, which a node can take as an argument. Returns the name of the constant.
    fn numbers(&mut self, name: &str, numbers: &[i64]) -> String {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.given(name.to_owned(), &[numbers.len()], INT64, bytes)
    }

    fn given(&mut self, name: String, shape: &[usize], data_type: i32, bytes: Vec<u8>) -> String {
        self.initializers.push(tensor(&name, shape, data_type, bytes));
        name
    }
}

fn tensor(name: &str, shape: &[usize], data_type: i32, raw_data: Vec<u8>) -> TensorProto {
    let dims = shape.iter().map(|&side| signed(side)).collect();
    TensorProto { dims, data_type, name: name.to_owned(), raw_data }
}

/// Describes an input or output of shape (N, width), or (N) if `width` is `None`.
fn value_info(name: &str, elem_type: i32, width: Option<usize>) -> proto::ValueInfoProto {
    let rows = Some(Extent::Named(ROWS.to_owned()));
    let width = width.map(|width| Some(Extent::Fixed(signed(width))));
    let dim = std::iter::once(rows).chain(width).map(|extent| Dimension { extent }).collect();
    let tensor = proto::TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) };
    let value_type = Some(proto::TypeProto { tensor: Some(tensor) });
    proto::ValueInfoProto { name: name.to_owned(), value_type }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        i: Some(value),
        kind: AttributeProto::INT,
        ..AttributeProto::default()
    }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        f: Some(value),
        kind: AttributeProto::FLOAT,
        ..AttributeProto::default()
    }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        ints: values.iter().map(|&value| signed(value)).collect(),
        kind: AttributeProto::INTS,
        ..AttributeProto::default()
    }
}

fn signed(size: usize) -> i64 {
    i64::try_from(size).expect("sizes are far below 2^63")
}
