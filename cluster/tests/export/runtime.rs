//! A simple and slow interpreter of the ONNX operations that exported policies use.

use cluster::export::proto::{AttributeProto, FLOAT, GraphProto, INT64, ModelProto, NodeProto};
use prost::Message as _;
use std::collections::{BTreeMap, HashMap};

/// A decoded ONNX file.
#[derive(Debug)]
pub(crate) struct Model(GraphProto);

/// Numbers of any shape. Integers are stored as floats.
#[derive(Debug, Clone)]
struct Tensor {
    dims: Vec<usize>,
    values: Vec<f32>,
}

impl Tensor {
    fn integers(&self) -> Vec<i64> {
        #[expect(clippy::cast_possible_truncation, reason = "they were integers")]
        self.values.iter().map(|&value| value as i64).collect()
    }
}

impl Model {
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let message = ModelProto::decode(bytes).unwrap();
        assert_eq!(message.opset_import[0].version, 17);
        Self(message.graph.unwrap())
    }

    /// Computes the outputs, by name, from the inputs (rows, columns).
    pub(crate) fn run(
        &self,
        rows: usize,
        inputs: &BTreeMap<&str, (usize, Vec<f32>)>,
    ) -> BTreeMap<String, Vec<f32>> {
        let mut values: HashMap<String, Tensor> = HashMap::new();
        for input in &self.0.input {
            let (width, numbers) = &inputs[input.name.as_str()];
            let tensor = Tensor { dims: vec![rows, *width], values: numbers.clone() };
            assert_eq!(tensor.values.len(), rows * width);
            values.insert(input.name.clone(), tensor);
        }
        for constant in &self.0.initializer {
            let numbers: Vec<f32> = match constant.data_type {
                FLOAT => {
                    let (floats, _) = constant.raw_data.as_chunks();
                    floats.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
                }
                INT64 => {
                    let (integers, _) = constant.raw_data.as_chunks();
                    #[expect(clippy::cast_precision_loss, reason = "sizes are small")]
                    integers.iter().map(|&bytes| i64::from_le_bytes(bytes) as f32).collect()
                }
                other => panic!("data type {other}"),
            };
            let dims = constant.dims.iter().map(|&side| usize::try_from(side).unwrap()).collect();
            let earlier = values.insert(constant.name.clone(), Tensor { dims, values: numbers });
            assert!(earlier.is_none(), "two values are called {}", constant.name);
        }
        for node in &self.0.node {
            let args: Vec<&Tensor> = node.input.iter().map(|name| &values[name]).collect();
            let result = evaluate(node, &args);
            let earlier = values.insert(node.output[0].clone(), result);
            assert!(earlier.is_none(), "two values are called {}", node.output[0]);
        }
        let output = |name: &String| (name.clone(), values[name].values.clone());
        self.0.output.iter().map(|info| output(&info.name)).collect()
    }
}

/// Returns the function of one number that an operation applies to each element. `None` for other operations.
fn function(op: &str) -> Option<fn(f32) -> f32> {
    Some(match op {
        "Relu" => |x| x.max(0.0),
        "Tanh" => f32::tanh,
        "Sigmoid" => |x| 1.0 / (1.0 + (-x).exp()),
        "Elu" => |x| if x > 0.0 { x } else { x.exp_m1() },
        "LeakyRelu" => |x| if x > 0.0 { x } else { 0.01 * x },
        "Softplus" => |x| x.max(0.0) + (-x.abs()).exp().ln_1p(),
        "Erf" => libm::erff,
        "Exp" => f32::exp,
        "Abs" => f32::abs,
        "Neg" => |x| -x,
        "Sign" => |x| if x == 0.0 { 0.0 } else { x.signum() },
        _ => return None,
    })
}

fn evaluate(node: &NodeProto, args: &[&Tensor]) -> Tensor {
    let x = args[0];
    if let Some(f) = function(&node.op_type) {
        return Tensor { dims: x.dims.clone(), values: x.values.iter().map(|&x| f(x)).collect() };
    }
    match node.op_type.as_str() {
        "Gemm" => gemm(x, args[1], args[2]),
        "Conv" => {
            conv(x, args[1], args[2], usize::try_from(setting(node, "strides").ints[0]).unwrap())
        }
        "LayerNormalization" => {
            layer_norm(x, args[1], args[2], setting(node, "epsilon").f.unwrap())
        }
        "Add" => zip(x, args[1], |a, b| a + b),
        "Sub" => zip(x, args[1], |a, b| a - b),
        "Mul" => zip(x, args[1], |a, b| a * b),
        "Div" => zip(x, args[1], |a, b| a / b),
        "Softmax" => by_row(x, |row, out| {
            let sum: f32 = row.iter().map(|x| x.exp()).sum();
            out.extend(row.iter().map(|x| x.exp() / sum));
        }),
        "Clip" => {
            let (min, max) = (args[1].values[0], args[2].values[0]);
            let values = x.values.iter().map(|x| x.clamp(min, max)).collect();
            Tensor { dims: x.dims.clone(), values }
        }
        "Slice" => {
            assert_eq!(args[3].integers(), [1]);
            let [start, end] = [1, 2].map(|i| usize::try_from(args[i].integers()[0]).unwrap());
            by_row(x, |row, out| out.extend(&row[start..end]))
        }
        "Concat" => concat(args),
        "Reshape" => reshape(x, &args[1].integers()),
        "Tile" => {
            let times = args[1].integers();
            assert_eq!((times[0], times[2], x.dims[1]), (1, 1, 1));
            let times = usize::try_from(times[1]).unwrap();
            let repeated = by_row(x, |row, out| (0..times).for_each(|_| out.extend(row)));
            Tensor { dims: vec![x.dims[0], times, x.dims[2]], ..repeated }
        }
        "ArgMax" => {
            let indices = by_row(x, |row, out| {
                let first =
                    (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
                #[expect(clippy::cast_precision_loss, reason = "indices are small")]
                out.push(first as f32);
            });
            Tensor { dims: vec![x.dims[0]], ..indices }
        }
        "GatherND" => {
            let (indices, width) = (args[1].integers(), x.dims[2]);
            let mut rows = x.values.chunks(x.dims[1] * width).zip(indices);
            let mut values = Vec::new();
            rows.by_ref().for_each(|(row, i)| {
                values.extend(&row[usize::try_from(i).unwrap() * width..][..width]);
            });
            Tensor { dims: vec![x.dims[0], width], values }
        }
        other => panic!("operation {other}"),
    }
}

fn setting<'a>(node: &'a NodeProto, name: &str) -> &'a AttributeProto {
    node.attribute.iter().find(|attribute| attribute.name == name).unwrap()
}

/// Applies `f` to each row separately. All resulting rows have the same new width.
fn by_row(x: &Tensor, mut f: impl FnMut(&[f32], &mut Vec<f32>)) -> Tensor {
    let mut values = Vec::new();
    x.values.chunks(x.values.len() / x.dims[0]).for_each(|row| f(row, &mut values));
    Tensor { dims: vec![x.dims[0], values.len() / x.dims[0]], values }
}

/// Applies `f` element by element. The smaller tensor is repeated: it has one row, one number per row, or one number.
fn zip(a: &Tensor, b: &Tensor, f: fn(f32, f32) -> f32) -> Tensor {
    let size = |t: &Tensor| (t.values.len(), t.dims.len());
    let (small, large) = if size(a) >= size(b) { (b, a) } else { (a, b) };
    let dims = &large.dims;
    let width = *dims.last().unwrap();
    let at = |t: &Tensor, i: usize| match *t.dims.last().unwrap() {
        _ if t.values.len() == large.values.len() => t.values[i],
        1 if small.values.len() > 1 => t.values[i / width], // one number per row
        _ => t.values[i % t.values.len()],
    };
    let values = (0..large.values.len()).map(|i| f(at(a, i), at(b, i))).collect();
    Tensor { dims: dims.clone(), values }
}

fn gemm(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    assert_eq!(x.dims[1], weight.dims[1]);
    by_row(x, |row, out| {
        let products = weight.values.chunks(row.len()).zip(&bias.values);
        out.extend(products.map(|(w, b)| w.iter().zip(row).map(|(w, x)| w * x).sum::<f32>() + b));
    })
}

fn conv(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: usize) -> Tensor {
    let (&[rows, channels, height, width], &[filters, _, kernel, _]) =
        (x.dims.as_slice(), weight.dims.as_slice())
    else {
        panic!("an image and its kernels")
    };
    let [high, wide] = [height, width].map(|side| (side - kernel) / stride + 1);
    let mut values = Vec::new();
    for image in x.values.chunks(channels * height * width) {
        for (kernels, bias) in weight.values.chunks(channels * kernel * kernel).zip(&bias.values) {
            for (top, left) in (0..high).flat_map(|y| (0..wide).map(move |x| (y, x))) {
                let pixel = |(i, w): (usize, &f32)| {
                    let (c, y, x) = (i / kernel / kernel, i / kernel % kernel, i % kernel);
                    w * image[(c * height + top * stride + y) * width + left * stride + x]
                };
                values.push(bias + kernels.iter().enumerate().map(pixel).sum::<f32>());
            }
        }
    }
    Tensor { dims: vec![rows, filters, high, wide], values }
}

fn layer_norm(x: &Tensor, scale: &Tensor, shift: &Tensor, epsilon: f32) -> Tensor {
    by_row(x, |row, out| {
        #[expect(clippy::cast_precision_loss, reason = "rows are short")]
        let n = row.len() as f32;
        let mean = row.iter().sum::<f32>() / n;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n;
        let scales = scale.values.iter().zip(&shift.values);
        out.extend(
            row.iter().zip(scales).map(|(x, (scale, shift))| {
                (x - mean) / (variance + epsilon).sqrt() * scale + shift
            }),
        );
    })
}

fn concat(parts: &[&Tensor]) -> Tensor {
    let rows = parts[0].dims[0];
    let mut values = Vec::new();
    for row in 0..rows {
        for part in parts {
            assert_eq!((part.dims.len(), part.dims[0]), (2, rows));
            values.extend(&part.values[row * part.dims[1]..][..part.dims[1]]);
        }
    }
    Tensor { dims: vec![rows, values.len() / rows], values }
}

fn reshape(x: &Tensor, shape: &[i64]) -> Tensor {
    assert_eq!(shape[0], -1);
    let sides = shape[1..].iter().map(|&side| usize::try_from(side).unwrap());
    let row: usize = sides.clone().product();
    let dims = std::iter::once(x.values.len() / row).chain(sides).collect();
    Tensor { dims, values: x.values.clone() }
}
