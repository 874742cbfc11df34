//! [`ActivationKernel`]: the activation functions between the layers of a trained network, and their derivatives.

use crate::isa::kernel;
use crate::tanh::{tanh, tanh_all};

/// Slope of the leaky ReLU for negative inputs.
const LEAK: f32 = 0.01;

/// Activation function of a trained network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationKernel {
    /// max(x, 0). NaN stays NaN.
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// x if x > 0, else exp(x) - 1.
    Elu,
    /// x if x > 0, else 0.01 x.
    LeakyRelu,
}

kernel! {
    /// Applies y <- activation(y).
    pub fn activation_forward<'a>(y: &'a mut [f32], activation: ActivationKernel) {
        match activation {
            ActivationKernel::Relu => {
                for y in y {
                    *y = if *y < 0.0 { 0.0 } else { *y };
                }
            }
            ActivationKernel::Tanh => tanh_all(y),
            ActivationKernel::Elu => {
                for y in y {
                    // exp(y) − 1 = 2t / (1 − t) with t = tanh(y / 2). This form is exact up to rounding near 0, and the
                    // loop is vectorised.
                    let t = tanh(0.5 * *y);
                    *y = if *y > 0.0 { *y } else { 2.0 * t / (1.0 - t) };
                }
            }
            ActivationKernel::LeakyRelu => {
                for y in y {
                    *y *= if *y > 0.0 { 1.0 } else { LEAK };
                }
            }
        }
    }
}

kernel! {
    /// Computes dy *= activation'(x) from the activation's value h = activation(x).
    pub fn activation_backward<'a>(dy: &'a mut [f32], h: &'a [f32], activation: ActivationKernel) {
        match activation {
            ActivationKernel::Relu => {
                for (dy, h) in dy.iter_mut().zip(h) {
                    *dy = if *h > 0.0 { *dy } else { 0.0 };
                }
            }
            ActivationKernel::Tanh => {
                for (dy, h) in dy.iter_mut().zip(h) {
                    *dy *= 1.0 - h * h;
                }
            }
            // exp(x) = h + 1 for negative x.
            ActivationKernel::Elu => {
                for (dy, h) in dy.iter_mut().zip(h) {
                    *dy *= if *h > 0.0 { 1.0 } else { h + 1.0 };
                }
            }
            ActivationKernel::LeakyRelu => {
                for (dy, h) in dy.iter_mut().zip(h) {
                    *dy *= if *h > 0.0 { 1.0 } else { LEAK };
                }
            }
        }
    }
}
