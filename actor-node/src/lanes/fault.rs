//! [`Fault`]: the reasons why an episode is discarded.

/// Reason why an episode was discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The environment panicked.
    Panic,
    /// The environment reported an error.
    Error,
    /// An observation or a reward was not finite.
    NotFinite,
    /// An observation or a reward was beyond [`VALUE_MAX`](common::values::VALUE_MAX).
    TooLarge,
    /// A step took longer than its deadline.
    Hang,
}

impl Fault {
    /// Returns the name used in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Error => "error",
            Self::NotFinite => "not_finite",
            Self::TooLarge => "too_large",
            Self::Hang => "hang",
        }
    }
}
