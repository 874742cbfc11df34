//! [`Script`]: a TorchScript archive that is loaded with libtorch, in the same way as in other programs.

use super::{TchResult, ops::signed};
use std::path::Path;
use tch::{CModule, IValue, Kind, TchError, Tensor};

/// A module whose `forward` takes matrices of floats. It returns one tensor or a tuple of tensors.
#[derive(Debug)]
pub struct Script(CModule);

/// Error for an archive that libtorch cannot load or evaluate.
#[derive(Debug, thiserror::Error)]
#[error("libtorch refuses the archive: {0}")]
pub struct ScriptError(#[from] TchError);

impl Script {
    /// Loads an archive.
    ///
    /// # Errors
    /// Returns an error if libtorch cannot read the archive.
    pub fn load(path: &Path) -> Result<Self, ScriptError> {
        Ok(Self(CModule::load(path)?))
    }

    /// Calls `forward` with `inputs` in the given order. Each input is (rows, ..) and row-major. Returns the outputs in
    /// order, each flat and row-major, with integers converted to floats.
    ///
    /// # Errors
    /// Returns an error if the module does not accept these inputs, or if an output is not a tensor.
    pub fn run(&self, rows: usize, inputs: &[&[f32]]) -> Result<Vec<Vec<f32>>, ScriptError> {
        let matrix = |values: &&[f32]| -> TchResult<IValue> {
            Ok(IValue::Tensor(Tensor::f_from_slice(values)?.f_reshape([signed(rows), -1])?))
        };
        let inputs = inputs.iter().map(matrix).collect::<TchResult<Vec<_>>>()?;
        let outputs = match tch::no_grad(|| self.0.forward_is(&inputs))? {
            IValue::Tuple(outputs) => outputs,
            output => vec![output],
        };
        let values = |output| -> TchResult<Vec<f32>> {
            let tensor = Tensor::try_from(output)?.f_to_kind(Kind::Float)?.f_reshape([-1])?;
            let mut values = vec![0.0; tensor.numel()];
            tensor.f_copy_data(&mut values, tensor.numel())?;
            Ok(values)
        };
        Ok(outputs.into_iter().map(values).collect::<TchResult<_>>()?)
    }
}
