//! Input and output of the house rules: a text file, and the problems that a rule finds in it.

/// A text file of the repository.
pub(crate) struct File {
    /// Path relative to the root of the repository, with `/` as the separator.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Problems in a file. Each has a line number, counted from 1, and a description.
pub(crate) type Found = Vec<(usize, String)>;
