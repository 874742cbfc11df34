//! Encodes a [`Graph`] as a TorchScript archive, which `torch.jit.load` and libtorch's `torch::jit::load` read.
//!
//! | record | content |
//! |---|---|
//! | `policy/data/N` | elements of the N-th constant |
//! | `policy/data.pkl` | an object of the class `Policy`, whose attributes are the constants |
//! | `policy/code/__torch__.py` | the class, with `forward` in TorchScript's own language |
//! | `policy/constants.pkl` | an empty tuple |
//! | `policy/version` | version of the operations |
//!
//! The archive is written without libtorch, so that a machine without it can export. This module does not read
//! archives.

use super::graph::{Graph, Map, Node, Op, Value, Zip};
use super::pickle::Pickle;
use super::zip::Archive;
use std::fmt::Write as _;

/// Version of the TorchScript operations: the first one in which division is true division.
const VERSION: &str = "4\n";

/// Returns the bytes of the file.
pub fn encode(graph: &Graph) -> Vec<u8> {
    let constants: Vec<_> = graph.constants().collect();
    let mut archive = Archive::default();
    for (i, constant) in constants.iter().enumerate() {
        let bytes: Vec<u8> = constant.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        archive.add(&format!("policy/data/{i}"), &bytes);
    }
    let names = constants.iter().map(|constant| (attribute(&constant.name), *constant));
    archive.add("policy/data.pkl", &object(names));
    archive.add("policy/code/__torch__.py", source(graph).as_bytes());
    archive.add("policy/constants.pkl", &Pickle::default().empty_tuple().finish());
    archive.add("policy/version", VERSION.as_bytes());
    archive.add("policy/byteorder", b"little");
    archive.finish()
}

/// Returns the pickled object of the class `Policy`.
fn object<'a>(constants: impl Iterator<Item = (String, &'a super::graph::Constant)>) -> Vec<u8> {
    let pickle = Pickle::default().global("__torch__", "Policy").empty_tuple().new_object();
    let mut pickle = pickle.empty_dict().mark();
    for (i, (name, constant)) in constants.enumerate() {
        pickle = pickle.text(&name).tensor(i, &constant.shape);
    }
    pickle.text("training").bool(false).set_items().build().finish()
}

/// Returns the source of the class, in the form that TorchScript itself writes.
fn source(graph: &Graph) -> String {
    let names: Vec<String> = graph.constants().map(|c| attribute(&c.name)).collect();
    let mut out = String::from("class Policy(Module):\n  __parameters__ = []\n  __buffers__ = [");
    let mut line = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("writing to a String cannot fail");
    };
    names.iter().for_each(|name| line(format_args!("\"{name}\", ")));
    line(format_args!("]\n"));
    names.iter().for_each(|name| line(format_args!("  {name} : Tensor\n")));
    line(format_args!("  training : bool\n  def forward(self: __torch__.Policy"));
    graph.inputs().for_each(|(name, _)| line(format_args!(",\n    {name}: Tensor")));
    match graph.outputs.len() {
        1 => line(format_args!(") -> Tensor:\n")),
        n => line(format_args!(") -> Tuple[{}]:\n", vec!["Tensor"; n].join(", "))),
    }
    for (name, node) in graph.steps() {
        let args: Vec<String> = node.args.iter().map(|&arg| reference(graph, arg)).collect();
        line(format_args!("    {name} = {}\n", call(node, &args)));
    }
    let outputs: Vec<&str> = graph.outputs.iter().map(|output| output.name).collect();
    match outputs[..] {
        [output] => line(format_args!("    return {output}\n")),
        _ => line(format_args!("    return ({})\n", outputs.join(", "))),
    }
    out
}

/// Returns the TorchScript expression of an operation.
fn call(node: &Node, args: &[String]) -> String {
    let list = args.join(", ");
    let first = args.first().map_or("", String::as_str);
    match &node.op {
        Op::Input { .. } | Op::Constant(_) => unreachable!("given, not computed"),
        Op::Linear => format!("torch.linear({list})"),
        Op::Conv { stride } => format!("torch.conv2d({list}, [{stride}, {stride}])"),
        Op::LayerNorm { width, epsilon } => {
            let [scale, shift] = [&args[1], &args[2]];
            format!("torch.layer_norm({first}, [{width}], {scale}, {shift}, {epsilon:?})")
        }
        Op::Map(map) => format!("torch.{}({first})", function(*map)),
        Op::Zip(zip) => {
            let name = match zip {
                Zip::Add => "add",
                Zip::Sub => "sub",
                Zip::Mul => "mul",
                Zip::Div => "div",
            };
            format!("torch.{name}({list})")
        }
        Op::Softmax => format!("torch.softmax({first}, 1)"),
        Op::Clamp { min, max } => format!("torch.clamp({first}, {min:?}, {max:?})"),
        Op::Columns { start, width } => format!("torch.narrow({first}, 1, {start}, {width})"),
        Op::Concat => format!("torch.cat([{list}], 1)"),
        Op::Reshape { dims } => {
            let dims: String = dims.iter().map(|side| format!(", {side}")).collect();
            format!("torch.reshape({first}, [-1{dims}])")
        }
        Op::RepeatRows { times, .. } => format!("torch.repeat_interleave({first}, {times}, 0)"),
        Op::ArgMax => format!("torch.argmax({first}, 1)"),
        Op::Pick { width } => {
            let index = format!("torch.reshape({}, [-1, 1, 1])", args[1]);
            let index = format!("torch.expand({index}, [-1, 1, {width}])");
            format!("torch.squeeze(torch.gather({first}, 1, {index}), 1)")
        }
    }
}

fn function(map: Map) -> &'static str {
    match map {
        Map::Relu => "relu",
        Map::Tanh => "tanh",
        Map::Sigmoid => "sigmoid",
        Map::Elu => "elu",
        Map::LeakyRelu => "leaky_relu",
        Map::Softplus => "softplus",
        Map::Erf => "erf",
        Map::Exp => "exp",
        Map::Abs => "abs",
        Map::Neg => "neg",
        Map::Sign => "sign",
    }
}

/// Returns the expression that refers to a result. Constants are attributes of the module.
fn reference(graph: &Graph, value: Value) -> String {
    let name = graph.name(value);
    match graph.nodes[value.index()].op {
        Op::Constant(_) => format!("self.{}", attribute(&name)),
        _ => name,
    }
}

/// Returns the name of the attribute that holds a constant: `trunk.0.weight` becomes `trunk_0_weight`.
fn attribute(name: &str) -> String {
    name.replace('.', "_")
}
