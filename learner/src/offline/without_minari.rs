//! Replacement for the module `minari` in a build without the feature `minari`. It refuses every Minari dataset with an
//! error that names this feature.

use super::DatasetError;
use common::config::ClusterConfig;
use common::spec::{EnvSpec, ItemLayout};
use std::path::Path;

pub(super) fn check(
    _: &Path,
    _: &EnvSpec,
    _: &ClusterConfig,
    _: &ItemLayout,
) -> Result<(), DatasetError> {
    Err(DatasetError::WithoutMinari)
}

pub(super) fn read(
    _: &Path,
    _: &EnvSpec,
    _: &ClusterConfig,
    _: &ItemLayout,
) -> Result<Vec<u8>, DatasetError> {
    Err(DatasetError::WithoutMinari)
}
