//! [`EnvError`]: the reasons why an environment cannot be created or stepped.

/// Reason why an environment cannot be created or stepped.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EnvError {
    /// No environment has this name.
    #[error("unknown environment {name}{}; `sapex envs` lists them", nearest.as_ref().map(|n| format!(", did you mean {n}?")).unwrap_or_default())]
    Unknown {
        /// The requested name.
        name: String,
        /// Up to three similar names, the most similar one first, such as `A or B`.
        nearest: Option<String>,
    },
    /// The environment exists, but this program was built without it.
    #[error("{name} needs {needs}, which this program was built without: run `{run}`")]
    NotBuilt {
        /// Name of the environment.
        name: &'static str,
        /// Missing library.
        needs: &'static str,
        /// Command that provides the library.
        run: &'static str,
    },
    /// A parameter that the environment does not have, or a value that it cannot use.
    #[error("{env}: parameter {key} = {value}: {expected}")]
    Parameter {
        /// Name of the environment.
        env: &'static str,
        /// Name of the parameter.
        key: String,
        /// The given value.
        value: String,
        /// Description of valid values.
        expected: String,
    },
    /// A wrapper that does not fit the environment.
    #[error("wrapper {wrapper} needs {needs}; {env} has {has}")]
    Wrapper {
        /// Name of the wrapper in the configuration.
        wrapper: &'static str,
        /// Property that an environment must have for this wrapper.
        needs: &'static str,
        /// Name of the environment.
        env: String,
        /// Property that this environment has instead.
        has: String,
    },
    /// An action that is NaN.
    #[error("action {dimension} is {value}, expected a number")]
    Action {
        /// Index of the dimension.
        dimension: usize,
        /// The given value.
        value: f32,
    },
    /// A discrete action that is not one of the choices.
    #[error("action is {value}, expected a whole number from 0 to {}", choices - 1)]
    Index {
        /// The given value.
        value: f32,
        /// Number of choices.
        choices: usize,
    },
    /// The environment failed.
    #[error("{0}")]
    Failed(String),
    /// The environment, which runs in another process, did not answer in time.
    #[error("{0}")]
    Hung(String),
}

impl EnvError {
    /// Returns whether the user must correct a name, a parameter, a wrapper or the build. All other errors come from
    /// the environment itself or from an action.
    pub fn is_users(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. }
                | Self::NotBuilt { .. }
                | Self::Parameter { .. }
                | Self::Wrapper { .. }
        )
    }
}
