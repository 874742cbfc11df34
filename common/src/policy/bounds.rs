//! [`ArchError`]: how large a network may be, and why one cannot be built.

/// An architecture that cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ArchError {
    /// A dimension is zero or absurd, or there are too many of them.
    #[error("policy {what} is {value}, expected 1 to {max}")]
    Size {
        /// Which one.
        what: &'static str,
        /// Its value.
        value: usize,
        /// The largest that is allowed.
        max: usize,
    },
    /// All dimensions are fine, but not together.
    #[error("policy has {parameters} parameters, expected at most {max}")]
    Parameters {
        /// How many the layers have.
        parameters: u128,
        /// [`POLICY_PARAMETERS_MAX`](crate::limits::POLICY_PARAMETERS_MAX).
        max: usize,
    },
    /// A wiring that is too small.
    #[error("policy has {neurons} neurons, expected at least {min}")]
    Neurons {
        /// How many.
        neurons: usize,
        /// The fewest that can be wired.
        min: usize,
    },
    /// An image of another size than the observation.
    #[error(
        "policy image is {image:?} (channels, height, width), expected {obs_dim} numbers in all"
    )]
    Image {
        /// Channels, height, width.
        image: [usize; 3],
        /// O.
        obs_dim: usize,
    },
    /// A bound or clip that is no positive number.
    #[error("policy {what} is {value}, expected a finite number above 0")]
    Bound {
        /// Which one.
        what: &'static str,
        /// Its value.
        value: f32,
    },
    /// The clamp of `log_std` is no interval.
    #[error("policy log_std bounds are [{min}, {max}], expected two finite numbers in order")]
    LogStd {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
}

/// Most hidden layers of a policy.
pub(super) const HIDDEN_LAYERS_MAX: usize = 64;
/// Widest layer of a policy.
pub(super) const WIDTH_MAX: usize = 1 << 20;

/// Whether 1 <= value <= max.
pub(super) fn size(what: &'static str, value: usize, max: usize) -> Result<(), ArchError> {
    if (1..=max).contains(&value) { Ok(()) } else { Err(ArchError::Size { what, value, max }) }
}

/// Some widths, each of them small enough that no product of two overflows.
pub(super) fn widths(what: &'static str, widths: &[usize]) -> Result<(), ArchError> {
    size("number of hidden layers", widths.len(), HIDDEN_LAYERS_MAX)?;
    let what = if what == "hidden" { "hidden width" } else { "backbone width" };
    widths.iter().try_for_each(|&width| size(what, width, WIDTH_MAX))
}
