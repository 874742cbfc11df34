//! [`TensorLayout`]: names, shapes and order of the tensors of one network inside one flat vector.

use std::fmt;

/// One named tensor inside a flat parameter vector. It is row-major; weight matrices have shape (out, in).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Checkpoint key, such as `trunk.0.weight`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Index of the tensor's first element in the flat vector.
    pub offset: usize,
    /// Whether an optimiser changes the tensor. A tensor that no optimiser changes is a buffer: the mask of a wiring,
    /// or statistics of observations. Buffers are stored with the weights, and their gradient is zero.
    pub trainable: bool,
}

impl TensorEntry {
    /// Returns the number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns the tensor's range in the flat vector.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.elements()
    }
}

/// Names, shapes and order of the tensors of one network. Tensors are stored without gaps, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TensorLayout {
    /// The tensors in wire and checkpoint order.
    pub entries: Vec<TensorEntry>,
    /// Length of the flat vector.
    pub parameters: usize,
}

impl TensorLayout {
    /// Appends a trainable tensor.
    pub fn push(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.append(name.into(), shape, true);
    }

    /// Appends a buffer, which is a tensor that no optimiser changes. Buffers must come after all trainable tensors.
    pub fn push_buffer(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.append(name.into(), shape, false);
    }

    fn append(&mut self, name: String, shape: &[usize], trainable: bool) {
        let entry = TensorEntry { name, shape: shape.to_vec(), offset: self.parameters, trainable };
        self.parameters += entry.elements();
        self.entries.push(entry);
    }

    /// Returns the tensor of that name.
    pub fn entry(&self, name: &str) -> Option<&TensorEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

impl fmt::Display for TensorLayout {
    /// Writes one `name [shape]` line per tensor. The architecture hash is computed from this text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| writeln!(f, "{} {:?}", entry.name, entry.shape))
    }
}
