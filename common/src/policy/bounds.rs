//! [`ArchError`]: the reasons why a network cannot be built. The largest sizes of a network are defined here, too.

/// Reason why an architecture cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ArchError {
    /// A dimension or a number of layers is zero or too large.
    #[error("policy {what} is {value}, expected 1 to {max}")]
    Size {
        /// Name of the dimension.
        what: &'static str,
        /// Its value.
        value: usize,
        /// Largest valid value.
        max: usize,
    },
    /// Each dimension is valid, but the network has too many parameters.
    #[error("policy has {parameters} parameters, expected at most {max}")]
    Parameters {
        /// Number of parameters of all layers.
        parameters: u128,
        /// [`POLICY_PARAMETERS_MAX`](crate::limits::POLICY_PARAMETERS_MAX).
        max: usize,
    },
    /// A wiring has too few neurons.
    #[error("policy has {neurons} neurons, expected at least {min}")]
    Neurons {
        /// Number of neurons.
        neurons: usize,
        /// Smallest number that can be wired.
        min: usize,
    },
    /// The image and the observation have different sizes.
    #[error(
        "policy image is {image:?} (channels, height, width), expected {obs_dim} numbers in all"
    )]
    Image {
        /// Channels, height, width.
        image: [usize; 3],
        /// O: number of values in the observation.
        obs_dim: usize,
    },
    /// A bound or clip is not a positive finite number.
    #[error("policy {what} is {value}, expected a finite number above 0")]
    Bound {
        /// Name of the bound.
        what: &'static str,
        /// Its value.
        value: f32,
    },
    /// The clamp of `log_std` is not an interval.
    #[error("policy log_std bounds are [{min}, {max}], expected two finite numbers in order")]
    LogStd {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
}

/// Maximum number of hidden layers of a policy.
pub(super) const HIDDEN_LAYERS_MAX: usize = 64;
/// Widest layer of a policy.
pub(super) const WIDTH_MAX: usize = 1 << 20;

/// Checks that 1 <= value <= max.
pub(super) fn size(what: &'static str, value: usize, max: usize) -> Result<(), ArchError> {
    if (1..=max).contains(&value) { Ok(()) } else { Err(ArchError::Size { what, value, max }) }
}

/// Checks that there is at least one width and that no width is too large. The product of two valid widths cannot
/// overflow.
pub(super) fn widths(what: &'static str, widths: &[usize]) -> Result<(), ArchError> {
    size("number of hidden layers", widths.len(), HIDDEN_LAYERS_MAX)?;
    let what = if what == "hidden" { "hidden width" } else { "backbone width" };
    widths.iter().try_for_each(|&width| size(what, width, WIDTH_MAX))
}
