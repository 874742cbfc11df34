//! Writes the part of the pickle format (protocol 2) that TorchScript uses for the attributes of a module. This module
//! never reads pickles.

/// A pickle under construction. Each call appends one or more instructions.
#[derive(Debug)]
pub(super) struct Pickle(Vec<u8>);

impl Default for Pickle {
    fn default() -> Self {
        Self(vec![0x80, 2])
    }
}

impl Pickle {
    fn op(mut self, code: u8) -> Self {
        self.0.push(code);
        self
    }

    /// Pushes the class or function of that name.
    pub(super) fn global(mut self, module: &str, name: &str) -> Self {
        self.0.extend_from_slice(format!("c{module}\n{name}\n").as_bytes());
        self
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        let length = u32::try_from(text.len()).expect("a name is short");
        self.0.push(b'X');
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn int(mut self, value: usize) -> Self {
        let value = i32::try_from(value).expect("a policy is smaller than 2^31 numbers");
        self.0.push(b'J');
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn bool(self, value: bool) -> Self {
        self.op(if value { 0x88 } else { 0x89 })
    }

    pub(super) fn mark(self) -> Self {
        self.op(b'(')
    }

    /// Replaces all values since the last mark by one tuple that holds them.
    fn tuple(self) -> Self {
        self.op(b't')
    }

    pub(super) fn empty_tuple(self) -> Self {
        self.op(b')')
    }

    pub(super) fn empty_dict(self) -> Self {
        self.op(b'}')
    }

    /// Replaces a class and the tuple of its constructor's arguments by a new object.
    pub(super) fn new_object(self) -> Self {
        self.op(0x81)
    }

    /// Replaces a function and the tuple of its arguments by the result of the call.
    fn reduce(self) -> Self {
        self.op(b'R')
    }

    /// Adds the keys and values since the last mark to the dictionary before the mark.
    pub(super) fn set_items(self) -> Self {
        self.op(b'u')
    }

    /// Sets a dictionary as the attributes of the object below it on the stack.
    pub(super) fn build(self) -> Self {
        self.op(b'b')
    }

    fn integers(self, values: impl IntoIterator<Item = usize>) -> Self {
        values.into_iter().fold(self.mark(), Self::int).tuple()
    }

    /// Pushes a contiguous tensor of 32-bit floats whose elements are in the archive record `data/{record}`.
    pub(super) fn tensor(self, record: usize, shape: &[usize]) -> Self {
        let elements = shape.iter().product();
        let strides = (1..=shape.len()).map(|i| shape[i..].iter().product());
        let storage = self.global("torch._utils", "_rebuild_tensor_v2").mark().mark();
        let storage = storage.text("storage").global("torch", "FloatStorage");
        let storage = storage.text(&record.to_string()).text("cpu").int(elements).tuple();
        let view = storage.op(b'Q').int(0).integers(shape.iter().copied()).integers(strides);
        let no_hooks = view.bool(false).global("collections", "OrderedDict").empty_tuple().reduce();
        no_hooks.tuple().reduce()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.op(b'.').0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_written_as_the_format_says() {
        let pickle = Pickle::default().tensor(3, &[2, 5]).finish();
        let mut expected =
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage".to_vec();
        expected.extend(b"ctorch\nFloatStorage\nX\x01\0\0\x003X\x03\0\0\0cpuJ\x0a\0\0\0tQ");
        expected.extend(b"J\0\0\0\0(J\x02\0\0\0J\x05\0\0\0t(J\x05\0\0\0J\x01\0\0\0t\x89");
        expected.extend(b"ccollections\nOrderedDict\n)RtR.");
        assert_eq!(pickle, expected);
    }
}
