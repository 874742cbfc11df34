//! What every house rule works on: a text file, and what is wrong in it.

/// A text file of the repository.
pub(crate) struct File {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Lines, from 1 on, and what is wrong there.
pub(crate) type Found = Vec<(usize, String)>;
