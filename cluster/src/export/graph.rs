//! [`Graph`]: a policy as a list of operations, which each file format encodes in its own notation.
//!
//! All operations exist in both ONNX and TorchScript. Except for constants, the first dimension of a value is the batch
//! size N, or a multiple of N after [`Op::RepeatRows`] or [`Op::Reshape`]. N is not part of a graph, so that one file
//! serves every batch size.

/// The result of a node. It is identified by the index of the node in [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value(usize);

impl Value {
    /// Returns the index of the node in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A constant tensor, stored in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// Name of the constant: the name of a tensor in a checkpoint, such as `trunk.0.weight`, another fixed name, or
    /// `constant.N`.
    pub name: String,
    /// Shape of the tensor.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Vec<f32>,
}

/// Operation of a node. In the shapes, N is the number of rows and W the number of columns.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Input (N, width) from the caller.
    Input {
        /// Name under which the caller passes the input.
        name: &'static str,
        /// Number of columns.
        width: usize,
    },
    /// A constant, the same for every row.
    Constant(Constant),
    /// `x W' + b` with x (N, in), W (out, in) and b (out).
    Linear,
    /// Convolution without padding of x (N, C, H, W) with weight (F, C, k, k) and bias (F).
    Conv {
        /// Stride of the kernel, in both directions.
        stride: usize,
    },
    /// Layer normalisation of x (N, W) over the columns, with scale (W) and shift (W).
    LayerNorm {
        /// Number W of columns.
        width: usize,
        /// Number that is added to the variance.
        epsilon: f32,
    },
    /// A function of one number, applied to each element.
    Map(Map),
    /// A function of two numbers, applied to each pair of elements. The smaller argument is broadcast.
    Zip(Zip),
    /// Probabilities from logits (N, W).
    Softmax,
    /// Clamps each element to a range.
    Clamp {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
    /// A range of columns.
    Columns {
        /// First column.
        start: usize,
        /// Number of columns.
        width: usize,
    },
    /// Concatenates the columns of all arguments.
    Concat,
    /// Reshapes to (N', dims), where N' follows from the number of elements.
    Reshape {
        /// Dimensions after the first.
        dims: Vec<usize>,
    },
    /// Repeats every row: (N, W) becomes (N * times, W), with the copies of a row next to each other.
    RepeatRows {
        /// Number of copies of each row.
        times: usize,
        /// Number W of columns.
        width: usize,
    },
    /// Index of the largest element of each row. If several elements are equal, the first one counts. (N, W) becomes
    /// (N), as 64-bit integers.
    ArgMax,
    /// Selects one of K entries for each row. The arguments are x (N, K, W) and one index per row (N); the result is
    /// (N, W).
    Pick {
        /// Number W of columns.
        width: usize,
    },
}

/// Function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Map {
    /// `max(x, 0)`
    Relu,
    /// `tanh x`
    Tanh,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x` if x > 0, else `exp(x) - 1`.
    Elu,
    /// `x` if x > 0, else `0.01 x`.
    LeakyRelu,
    /// `ln(1 + exp(x))`
    Softplus,
    /// Error function of x.
    Erf,
    /// `exp x`
    Exp,
    /// `|x|`
    Abs,
    /// `-x`
    Neg,
    /// Sign of x: -1, 0 or 1.
    Sign,
}

/// Function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zip {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
}

/// An operation and its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The operation.
    pub op: Op,
    /// Arguments: results of earlier nodes.
    pub args: Vec<Value>,
}

/// A result that is returned to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Name under which the caller receives the output.
    pub name: &'static str,
    /// The returned result.
    pub value: Value,
    /// Number of columns of the output. `None` if the output has the shape (N), which holds one integer per row.
    pub width: Option<usize>,
}

/// A computation: nodes in an order in which they can be executed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// All nodes.
    pub nodes: Vec<Node>,
    /// Outputs, in order.
    pub outputs: Vec<Output>,
}

impl Graph {
    /// Appends a node and returns its result.
    pub fn push(&mut self, op: Op, args: &[Value]) -> Value {
        self.nodes.push(Node { op, args: args.to_vec() });
        Value(self.nodes.len() - 1)
    }

    /// Appends an input (N, width) from the caller.
    pub fn input(&mut self, name: &'static str, width: usize) -> Value {
        self.push(Op::Input { name, width }, &[])
    }

    /// Appends a constant tensor with the name `constant.N`, where N is the index of the node.
    pub fn constant(&mut self, shape: &[usize], values: Vec<f32>) -> Value {
        let name = format!("constant.{}", self.nodes.len());
        self.push(Op::Constant(Constant { name, shape: shape.to_vec(), values }), &[])
    }

    /// Appends a constant vector with a name.
    pub fn named(&mut self, name: &str, values: &[f32]) -> Value {
        let (name, shape, values) = (name.to_owned(), vec![values.len()], values.to_vec());
        self.push(Op::Constant(Constant { name, shape, values }), &[])
    }

    /// Appends a constant number, which broadcasts to any shape.
    pub fn scalar(&mut self, value: f32) -> Value {
        self.constant(&[1], vec![value])
    }

    /// Applies a function of one number to each element.
    pub fn map(&mut self, map: Map, x: Value) -> Value {
        self.push(Op::Map(map), &[x])
    }

    /// Applies a function of two numbers to each pair of elements.
    pub fn zip(&mut self, zip: Zip, a: Value, b: Value) -> Value {
        self.push(Op::Zip(zip), &[a, b])
    }

    /// Selects `width` columns from `start` on.
    pub fn columns(&mut self, x: Value, start: usize, width: usize) -> Value {
        self.push(Op::Columns { start, width }, &[x])
    }

    /// Concatenates values along the columns.
    pub fn concat(&mut self, parts: &[Value]) -> Value {
        self.push(Op::Concat, parts)
    }

    /// Computes `a (1 - s) + s b`.
    pub fn mix(&mut self, a: Value, b: Value, s: Value) -> Value {
        let one = self.scalar(1.0);
        let rest = self.zip(Zip::Sub, one, s);
        let kept = self.zip(Zip::Mul, a, rest);
        let taken = self.zip(Zip::Mul, s, b);
        self.zip(Zip::Add, kept, taken)
    }

    /// Returns the name and width of each input, in order.
    pub fn inputs(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.nodes.iter().filter_map(|node| match node.op {
            Op::Input { name, width } => Some((name, width)),
            _ => None,
        })
    }

    /// Returns the constants that the file must contain, in order.
    pub fn constants(&self) -> impl Iterator<Item = &Constant> + '_ {
        self.nodes.iter().filter_map(|node| match &node.op {
            Op::Constant(constant) => Some(constant),
            _ => None,
        })
    }

    /// Returns the name that a result has in the exported file. Inputs, constants and outputs keep their own names; the
    /// name of any other result contains the index of its node.
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

    /// Returns the nodes that compute something (all except inputs and constants), each with the name of its result.
    pub fn steps(&self) -> impl Iterator<Item = (String, &Node)> + '_ {
        self.nodes.iter().enumerate().filter_map(|(i, node)| {
            let given = matches!(node.op, Op::Input { .. } | Op::Constant(_));
            (!given).then(|| (self.name(Value(i)), node))
        })
    }
}
