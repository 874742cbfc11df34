//! [`Script`]: a TorchScript archive, loaded with libtorch, as other programs load it too.

use super::{TchResult, ops::signed};
use std::path::Path;
use tch::{CModule, IValue, Kind, TchError, Tensor};

/// A module whose `forward` takes matrices of floats and returns a tensor, or a tuple of tensors.
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
    /// Returns an error if libtorch cannot read it.
    pub fn load(path: &Path) -> Result<Self, ScriptError> {
        Ok(Self(CModule::load(path)?))
    }

    /// Calls `forward` with `inputs` in order, each (rows, ..), row-major. Returns the outputs in order, row-major,
    /// with integers as floats.
    ///
    /// # Errors
    /// Returns an error if the module takes other inputs or returns something other than tensors.
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
