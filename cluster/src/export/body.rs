//! Builds one inference step of every [`Body`] from graph operations. The operations compute the same values as
//! `common::policy::infer`, in the same order.

use super::graph::{Constant, Graph, Map, Op, Value, Zip};
use common::policy::arch::{Activation, BackboneActivation, Body, CfcMode, Conv, Mlp};
use common::policy::body::NcpNeurons;
use common::policy::layout::TensorLayout;

/// Backbone without layers, for a cell whose heads read the input directly. The activation is not used.
const NO_BACKBONE: (usize, BackboneActivation) = (0, BackboneActivation::LecunTanh);

/// Number that layer normalisation adds to the variance.
const LAYER_NORM_EPSILON: f32 = 1e-5;

/// A graph under construction, and the weights from which its constants are taken.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    pub(super) graph: Graph,
    layout: TensorLayout,
    weights: &'a [f32],
}

impl<'a> Builder<'a> {
    /// Creates an empty graph. `layout` is the layout of `weights`.
    pub(super) fn new(layout: TensorLayout, weights: &'a [f32]) -> Self {
        Self { graph: Graph::default(), layout, weights }
    }

    /// Adds the tensor of that name as a constant.
    pub(super) fn weight(&mut self, name: &str) -> Value {
        let constant = self.constant(name);
        self.graph.push(Op::Constant(constant), &[])
    }

    /// Adds `x W' + b` with the tensors `{name}.weight` and `{name}.bias`.
    pub(super) fn linear(&mut self, name: &str, x: Value) -> Value {
        let weight = self.weight(&format!("{name}.weight"));
        let bias = self.weight(&format!("{name}.bias"));
        self.graph.push(Op::Linear, &[x, weight, bias])
    }

    /// Adds a linear layer, as [`Builder::linear`] does, with the weights multiplied by the tensor `mask`. The product
    /// is computed here, so the file does not contain the mask.
    fn sparse(&mut self, name: &str, mask: &str, x: Value) -> Value {
        let mut weight = self.constant(&format!("{name}.weight"));
        for (weight, mask) in weight.values.iter_mut().zip(self.constant(mask).values) {
            *weight *= mask;
        }
        let weight = self.graph.push(Op::Constant(weight), &[]);
        let bias = self.weight(&format!("{name}.bias"));
        self.graph.push(Op::Linear, &[x, weight, bias])
    }

    fn constant(&self, name: &str) -> Constant {
        let entry = self.layout.entry(name).expect("the layout has every tensor of its body");
        Constant {
            name: name.to_owned(),
            shape: entry.shape.clone(),
            values: self.weights[entry.range()].to_vec(),
        }
    }

    /// Adds the body for an input x (N, O) and, if the body is recurrent, a state (N, S). Returns the result of the
    /// body and the next state. The result is the outputs if the body is its own head, and features otherwise.
    pub(super) fn body(
        &mut self,
        body: &Body,
        outputs: usize,
        x: Value,
        state: Option<Value>,
    ) -> (Value, Option<Value>) {
        let carried = || state.expect("a recurrent body has a state");
        match body {
            Body::Mlp(layers) => (self.mlp("trunk", layers, x), None),
            Body::Cnn { image, convs, dense } => {
                let x = self.convolve(*image, convs, dense.activation, x);
                let x = self.graph.push(Op::Reshape { dims: vec![body.conv_features()] }, &[x]);
                (self.mlp("trunk", dense, x), None)
            }
            Body::Lstm { layers, hidden } => {
                let (x, state) = self.lstm(*layers, *hidden, x, carried());
                (x, Some(state))
            }
            Body::Liquid { .. } => {
                let x = self.sparse("inter", "inter.mask", x);
                let x = self.mish(x);
                let (y, state) = self.liquid_cell(x, carried());
                let y = self.mish(y);
                (self.sparse("motor", "motor.mask", y), Some(state))
            }
            Body::Ncp { .. } => {
                let x = self.sparse("inter", "inter.mask", x);
                let x = self.mish(x);
                let x = self.sparse("command", "command.mask", x);
                let x = self.mish(x);
                (self.sparse("motor", "motor.mask", x), None)
            }
            Body::Cfc { hidden, mode, backbone, activation, mixed_memory } => {
                let (state, backbone) = (carried(), (backbone.len(), *activation));
                if !mixed_memory {
                    let h = self.cfc_cell("", *mode, backbone, x, state);
                    return (h, Some(h));
                }
                let (h, c) = self.mixed_memory_cell(*hidden, x, state);
                let h = self.cfc_cell("", *mode, backbone, x, h);
                (h, Some(self.graph.concat(&[h, c])))
            }
            Body::WiredCfc { units, mode, .. } => {
                let NcpNeurons { inter, command } = NcpNeurons::auto_ncp(*units, outputs);
                let (mut x, mut start, mut states) = (x, 0, Vec::new());
                for (l, width) in [inter, command, outputs].into_iter().enumerate() {
                    let h = self.graph.columns(carried(), start, width);
                    x = self.cfc_cell(&format!("layer.{l}."), *mode, NO_BACKBONE, x, h);
                    states.push(x);
                    start += width;
                }
                (x, Some(self.graph.concat(&states)))
            }
            Body::BatchConstrained { .. } => unreachable!("a way to act, which `policy` builds"),
        }
    }

    /// Adds the hidden layers `{prefix}.{i}`.
    pub(super) fn mlp(&mut self, prefix: &str, mlp: &Mlp, mut x: Value) -> Value {
        for (i, &width) in mlp.hidden.iter().enumerate() {
            let name = format!("{prefix}.{i}");
            x = self.linear(&name, x);
            if mlp.layer_norm {
                let scale = self.weight(&format!("{name}.norm.weight"));
                let shift = self.weight(&format!("{name}.norm.bias"));
                let norm = Op::LayerNorm { width, epsilon: LAYER_NORM_EPSILON };
                x = self.graph.push(norm, &[x, scale, shift]);
            }
            x = self.activate(mlp.activation_of(i), x);
        }
        x
    }

    /// Adds the hidden layers like [`Builder::mlp`], but without layer normalisation, followed by the output layer.
    pub(super) fn mlp_with_output(&mut self, prefix: &str, mlp: &Mlp, mut x: Value) -> Value {
        for i in 0..mlp.hidden.len() {
            x = self.linear(&format!("{prefix}.{i}"), x);
            x = self.activate(mlp.activation_of(i), x);
        }
        self.linear(&format!("{prefix}.{}", mlp.hidden.len()), x)
    }

    fn activate(&mut self, activation: Activation, x: Value) -> Value {
        match activation {
            Activation::Relu => self.graph.map(Map::Relu, x),
            Activation::Tanh => self.graph.map(Map::Tanh, x),
            Activation::Silu => {
                let s = self.graph.map(Map::Sigmoid, x);
                self.graph.zip(Zip::Mul, x, s)
            }
            Activation::Elu => self.graph.map(Map::Elu, x),
            Activation::Mish => self.mish(x),
            Activation::LeakyRelu => self.graph.map(Map::LeakyRelu, x),
        }
    }

    /// Adds x (1 + erf(x / sqrt 2)) / 2.
    fn gelu(&mut self, x: Value) -> Value {
        let [root, one, half] =
            [std::f32::consts::FRAC_1_SQRT_2, 1.0, 0.5].map(|number| self.graph.scalar(number));
        let y = self.graph.zip(Zip::Mul, x, root);
        let y = self.graph.map(Map::Erf, y);
        let y = self.graph.zip(Zip::Add, y, one);
        let y = self.graph.zip(Zip::Mul, y, half);
        self.graph.zip(Zip::Mul, x, y)
    }

    /// Adds x tanh(softplus(x)).
    fn mish(&mut self, x: Value) -> Value {
        let y = self.graph.map(Map::Softplus, x);
        let y = self.graph.map(Map::Tanh, y);
        self.graph.zip(Zip::Mul, x, y)
    }

    /// Adds the convolutions. x (N, C*H*W) holds the bytes of an image, which are first divided by 255. Returns the
    /// result of the last convolution, after the activation.
    fn convolve(
        &mut self,
        image: [usize; 3],
        convs: &[Conv],
        activation: Activation,
        x: Value,
    ) -> Value {
        let bright = self.graph.scalar(255.0);
        let x = self.graph.zip(Zip::Div, x, bright);
        let mut x = self.graph.push(Op::Reshape { dims: image.to_vec() }, &[x]);
        for (i, conv) in convs.iter().enumerate() {
            let weight = self.weight(&format!("conv.{i}.weight"));
            let bias = self.weight(&format!("conv.{i}.bias"));
            x = self.graph.push(Op::Conv { stride: conv.stride }, &[x, weight, bias]);
            x = self.activate(activation, x);
        }
        x
    }

    /// Adds stacked LSTM layers. The order of the gates is input, forget, candidate, output. The state holds the hidden
    /// states of all layers, followed by the cell states of all layers. Returns the output and the next state.
    fn lstm(&mut self, layers: usize, hidden: usize, mut x: Value, state: Value) -> (Value, Value) {
        let (mut hs, mut cs) = (Vec::new(), Vec::new());
        for l in 0..layers {
            let h = self.graph.columns(state, l * hidden, hidden);
            let c = self.graph.columns(state, (layers + l) * hidden, hidden);
            let [x_gates, h_gates] = [("ih", x), ("hh", h)].map(|(kind, x)| {
                let weight = self.weight(&format!("lstm.{l}.weight_{kind}"));
                let bias = self.weight(&format!("lstm.{l}.bias_{kind}"));
                self.graph.push(Op::Linear, &[x, weight, bias])
            });
            let gates = self.graph.zip(Zip::Add, x_gates, h_gates);
            let input = self.gate(gates, 0, hidden, Map::Sigmoid);
            let forget = self.gate(gates, 1, hidden, Map::Sigmoid);
            let candidate = self.gate(gates, 2, hidden, Map::Tanh);
            let output = self.gate(gates, 3, hidden, Map::Sigmoid);
            let (h, c) = self.remember(c, [input, forget, candidate, output]);
            x = h;
            hs.push(h);
            cs.push(c);
        }
        hs.append(&mut cs);
        (x, self.graph.concat(&hs))
    }

    /// Returns the n-th gate: `width` columns of `gates`, with the activation `map`.
    fn gate(&mut self, gates: Value, n: usize, width: usize, map: Map) -> Value {
        let gate = self.graph.columns(gates, n * width, width);
        self.graph.map(map, gate)
    }

    /// Updates an LSTM cell: `c' = forget c + input candidate`, `h' = output tanh(c')`. Returns h' and c'.
    fn remember(
        &mut self,
        c: Value,
        [input, forget, candidate, output]: [Value; 4],
    ) -> (Value, Value) {
        let kept = self.graph.zip(Zip::Mul, forget, c);
        let new = self.graph.zip(Zip::Mul, input, candidate);
        let c = self.graph.zip(Zip::Add, kept, new);
        let squashed = self.graph.map(Map::Tanh, c);
        (self.graph.zip(Zip::Mul, output, squashed), c)
    }

    /// Adds Velora's cell (docs/algorithms/liquid.md §4) for an input x (N, I) and a state h (N, H), where I is the
    /// number of inter neurons. Returns the output y (N, H) and the next state h' (N, H).
    fn liquid_cell(&mut self, x: Value, h: Value) -> (Value, Value) {
        let z = self.graph.concat(&[x, h]);
        let [to_g, to_h, g, h, proj] =
            ["f_to_g", "f_to_h", "g", "h", "proj"].map(|name| self.sparse(name, "command.mask", z));
        let s = self.graph.zip(Zip::Add, to_g, to_h);
        let s = self.graph.map(Map::Sigmoid, s);
        let [g, h] = [g, h].map(|head| self.graph.map(Map::Tanh, head));
        let h = self.graph.mix(g, h, s);
        (self.graph.zip(Zip::Add, proj, h), h)
    }

    /// Adds one step of the closed-form cell (docs/algorithms/liquid.md §6.1) for the input [x; h] and one unit of
    /// time. The names of the cell's tensors start with `prefix`, except for the backbone. If `prefix` is not empty,
    /// the weights of the two candidate heads are masked by `{prefix}mask`; no other weights are masked.
    fn cfc_cell(
        &mut self,
        prefix: &str,
        mode: CfcMode,
        (layers, activation): (usize, BackboneActivation),
        x: Value,
        h: Value,
    ) -> Value {
        let mut z = self.graph.concat(&[x, h]);
        for i in 0..layers {
            z = self.linear(&format!("backbone.{i}"), z);
            z = match activation {
                BackboneActivation::LecunTanh => self.lecun_tanh(z),
                BackboneActivation::Relu => self.activate(Activation::Relu, z),
                BackboneActivation::Tanh => self.activate(Activation::Tanh, z),
                BackboneActivation::Gelu => self.gelu(z),
                BackboneActivation::Silu => self.activate(Activation::Silu, z),
            };
        }
        let f1 = self.candidate(prefix, "ff1", z);
        if mode == CfcMode::Pure {
            let [w_tau, a] = ["w_tau", "a"].map(|name| self.weight(&format!("{prefix}{name}")));
            let [w_tau, size] = [w_tau, f1].map(|x| self.graph.map(Map::Abs, x));
            let rate = self.graph.zip(Zip::Add, w_tau, size);
            let rate = self.graph.map(Map::Neg, rate);
            let decay = self.graph.map(Map::Exp, rate);
            let decay = self.graph.zip(Zip::Mul, a, decay);
            let moved = self.graph.zip(Zip::Mul, decay, f1);
            return self.graph.zip(Zip::Sub, a, moved);
        }
        let f2 = self.candidate(prefix, "ff2", z);
        let [f1, f2] = [f1, f2].map(|f| self.graph.map(Map::Tanh, f));
        let [a, b] = ["time_a", "time_b"].map(|name| self.linear(&format!("{prefix}{name}"), z));
        let s = self.graph.zip(Zip::Add, a, b);
        let s = self.graph.map(Map::Sigmoid, s);
        if mode == CfcMode::NoGate {
            let f2 = self.graph.zip(Zip::Mul, s, f2);
            return self.graph.zip(Zip::Add, f1, f2);
        }
        self.graph.mix(f1, f2, s)
    }

    fn candidate(&mut self, prefix: &str, name: &str, z: Value) -> Value {
        let name = format!("{prefix}{name}");
        if prefix.is_empty() {
            self.linear(&name, z)
        } else {
            self.sparse(&name, &format!("{prefix}mask"), z)
        }
    }

    /// Adds 1.7159 tanh(0.666 x).
    fn lecun_tanh(&mut self, x: Value) -> Value {
        let [inner, outer] = [0.666, 1.7159].map(|value| self.graph.scalar(value));
        let x = self.graph.zip(Zip::Mul, x, inner);
        let x = self.graph.map(Map::Tanh, x);
        self.graph.zip(Zip::Mul, x, outer)
    }

    /// Adds the LSTM cell in front of a closed-form cell (docs/algorithms/liquid.md §6.3). The order of the gates is
    /// candidate, input, forget, output. 1 is added to the forget gate before its activation.
    fn mixed_memory_cell(&mut self, hidden: usize, x: Value, state: Value) -> (Value, Value) {
        let h = self.graph.columns(state, 0, hidden);
        let c = self.graph.columns(state, hidden, hidden);
        let x_gates = self.linear("lstm.input", x);
        let weight = self.weight("lstm.recurrent.weight");
        let no_bias = self.graph.constant(&[4 * hidden], vec![0.0; 4 * hidden]);
        let h_gates = self.graph.push(Op::Linear, &[h, weight, no_bias]);
        let gates = self.graph.zip(Zip::Add, x_gates, h_gates);
        let candidate = self.gate(gates, 0, hidden, Map::Tanh);
        let input = self.gate(gates, 1, hidden, Map::Sigmoid);
        let forget = self.graph.columns(gates, 2 * hidden, hidden);
        let one = self.graph.scalar(1.0);
        let forget = self.graph.zip(Zip::Add, forget, one);
        let forget = self.graph.map(Map::Sigmoid, forget);
        let output = self.gate(gates, 3, hidden, Map::Sigmoid);
        self.remember(c, [input, forget, candidate, output])
    }
}
