//! [`Graph`]: a policy as a list of operations, which every file format writes in its own words.
//!
//! The operations are those that ONNX and TorchScript both have. Rows are the first dimension of every value that is no
//! constant; their number is nowhere in a graph, so that one file serves any batch.

/// A node's result, by its index among [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value(usize);

impl Value {
    /// Its node's place in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// Numbers that travel in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// A checkpoint's name of a tensor, such as `trunk.0.weight`, or `constant.N`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Vec<f32>,
}

/// What a node does with its arguments. Letters: N rows, W columns.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// (N, width), given by the caller.
    Input {
        /// The caller's name for it.
        name: &'static str,
        /// Columns.
        width: usize,
    },
    /// The same for every row.
    Constant(Constant),
    /// `x W' + b` of x (N, in), W (out, in), b (out).
    Linear,
    /// Convolution without padding of x (N, C, H, W), weight (F, C, k, k), bias (F).
    Conv {
        /// Step of the kernel.
        stride: usize,
    },
    /// Normalisation over the last dimension, of as many numbers as given, with scale (W) and shift (W).
    LayerNorm {
        /// W.
        width: usize,
        /// Added to the variance.
        epsilon: f32,
    },
    /// Element by element.
    Map(Map),
    /// Element by element of two, the smaller one repeated.
    Zip(Zip),
    /// Probabilities from logits (N, W).
    Softmax,
    /// Held within bounds.
    Clamp {
        /// Lower.
        min: f32,
        /// Upper.
        max: f32,
    },
    /// So many columns from `start` on.
    Columns {
        /// First one.
        start: usize,
        /// How many.
        width: usize,
    },
    /// All arguments' columns, one after the other.
    Concat,
    /// (N', dims) of the same numbers, with as many rows as that takes.
    Reshape {
        /// Dimensions after the first.
        dims: Vec<usize>,
    },
    /// Every row so often: (N, W) to (N * times, W), repetitions next to each other.
    RepeatRows {
        /// How often.
        times: usize,
        /// W.
        width: usize,
    },
    /// The index of each row's largest number, the first of equals: (N, W) to (N), 64-bit integers.
    ArgMax,
    /// From x (N, K, W) what is at each row's index (N): (N, W).
    Pick {
        /// W.
        width: usize,
    },
}

/// Functions of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Map {
    /// max(x, 0)
    Relu,
    /// tanh x
    Tanh,
    /// 1 / (1 + exp(-x))
    Sigmoid,
    /// x where x > 0, else exp(x) - 1
    Elu,
    /// x where x > 0, else 0.01 x
    LeakyRelu,
    /// ln(1 + exp(x))
    Softplus,
    /// The error function of x.
    Erf,
    /// exp x
    Exp,
    /// |x|
    Abs,
    /// -x
    Neg,
    /// -1, 0 or 1
    Sign,
}

/// Functions of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zip {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a * b
    Mul,
    /// a / b
    Div,
}

/// An operation and what it works on.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What is done.
    pub op: Op,
    /// With which results, all of them earlier nodes'.
    pub args: Vec<Value>,
}

/// A result that the caller gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The caller's name for it.
    pub name: &'static str,
    /// The result.
    pub value: Value,
    /// Columns; `None` for one integer per row, (N).
    pub width: Option<usize>,
}

/// Operations in an order in which they can be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// All of them.
    pub nodes: Vec<Node>,
    /// What comes out, in order.
    pub outputs: Vec<Output>,
}

impl Graph {
    /// Appends an operation.
    pub fn push(&mut self, op: Op, args: &[Value]) -> Value {
        self.nodes.push(Node { op, args: args.to_vec() });
        Value(self.nodes.len() - 1)
    }

    /// Appends an argument of the caller's.
    pub fn input(&mut self, name: &'static str, width: usize) -> Value {
        self.push(Op::Input { name, width }, &[])
    }

    /// Appends numbers without a name of their own.
    pub fn constant(&mut self, shape: &[usize], values: Vec<f32>) -> Value {
        let name = format!("constant.{}", self.nodes.len());
        self.push(Op::Constant(Constant { name, shape: shape.to_vec(), values }), &[])
    }

    /// Appends a named vector.
    pub fn named(&mut self, name: &str, values: &[f32]) -> Value {
        let (name, shape, values) = (name.to_owned(), vec![values.len()], values.to_vec());
        self.push(Op::Constant(Constant { name, shape, values }), &[])
    }

    /// One number, to be combined with any shape.
    pub fn scalar(&mut self, value: f32) -> Value {
        self.constant(&[1], vec![value])
    }

    /// A function of one number.
    pub fn map(&mut self, map: Map, x: Value) -> Value {
        self.push(Op::Map(map), &[x])
    }

    /// A function of two numbers.
    pub fn zip(&mut self, zip: Zip, a: Value, b: Value) -> Value {
        self.push(Op::Zip(zip), &[a, b])
    }

    /// Columns of a matrix.
    pub fn columns(&mut self, x: Value, start: usize, width: usize) -> Value {
        self.push(Op::Columns { start, width }, &[x])
    }

    /// Columns side by side.
    pub fn concat(&mut self, parts: &[Value]) -> Value {
        self.push(Op::Concat, parts)
    }

    /// `a (1 - s) + s b`
    pub fn mix(&mut self, a: Value, b: Value, s: Value) -> Value {
        let one = self.scalar(1.0);
        let rest = self.zip(Zip::Sub, one, s);
        let kept = self.zip(Zip::Mul, a, rest);
        let taken = self.zip(Zip::Mul, s, b);
        self.zip(Zip::Add, kept, taken)
    }

    /// The caller's arguments, in order.
    pub fn inputs(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.nodes.iter().filter_map(|node| match node.op {
            Op::Input { name, width } => Some((name, width)),
            _ => None,
        })
    }

    /// The numbers that travel in the file, in order.
    pub fn constants(&self) -> impl Iterator<Item = &Constant> + '_ {
        self.nodes.iter().filter_map(|node| match &node.op {
            Op::Constant(constant) => Some(constant),
            _ => None,
        })
    }

    /// What a result is called in a file: an input's, constant's or output's own name, else by its place.
    pub fn name(&self, value: Value) -> String {
        match &self.nodes[value.0].op {
            Op::Input { name, .. } => (*name).to_owned(),
            Op::Constant(constant) => constant.name.clone(),
            _ => self
                .outputs
                .iter()
                .find(|output| output.value == value)
                .map_or_else(|| format!("v{}", value.0), |output| output.name.to_owned()),
        }
    }

    /// The operations that compute something, with what their result is called.
    pub fn steps(&self) -> impl Iterator<Item = (String, &Node)> + '_ {
        self.nodes.iter().enumerate().filter_map(|(i, node)| {
            let given = matches!(node.op, Op::Input { .. } | Op::Constant(_));
            (!given).then(|| (self.name(Value(i)), node))
        })
    }
}
