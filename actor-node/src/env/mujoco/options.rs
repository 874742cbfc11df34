//! Parses environment parameters, which are Gymnasium's keyword arguments, into numbers, switches, ranges and texts.

use crate::env::helpers::check_params;
use crate::env::{EnvError, EnvParams};
use std::cell::RefCell;

/// Parameters of one environment. Each parameter that is read becomes known; [`Options::finish`] refuses all others.
#[derive(Debug)]
pub(super) struct Options<'a> {
    env: &'static str,
    params: &'a EnvParams,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Options<'a> {
    /// Creates the options of `env`.
    pub(super) fn new(env: &'static str, params: &'a EnvParams) -> Self {
        Self { env, params, known: RefCell::default() }
    }

    /// Returns the name of the environment.
    pub(super) fn env(&self) -> &'static str {
        self.env
    }

    /// Reads a finite number.
    pub(super) fn number(&self, key: &'static str, default: f64) -> Result<f64, EnvError> {
        self.parse(key, default, "expected a number", |text| {
            text.parse().ok().filter(|number: &f64| number.is_finite())
        })
    }

    /// Reads the number of simulator steps per action.
    pub(super) fn frame_skip(&self, default: usize) -> Result<usize, EnvError> {
        self.parse("frame_skip", default, "expected a whole number from 1 on", |text| {
            text.parse().ok().filter(|&count| count > 0)
        })
    }

    /// Reads `true` or `false`, also in Python's spelling.
    pub(super) fn switch(&self, key: &'static str, default: bool) -> Result<bool, EnvError> {
        self.parse(key, default, "expected true or false", |text| match text {
            "true" | "True" | "1" => Some(true),
            "false" | "False" | "0" => Some(false),
            _ => None,
        })
    }

    /// Reads `low,high`, with or without brackets. `inf` and `-inf` are valid bounds.
    pub(super) fn range(
        &self,
        key: &'static str,
        default: (f64, f64),
    ) -> Result<(f64, f64), EnvError> {
        self.parse(key, default, "expected LOW,HIGH with LOW not above HIGH", |text| {
            let inner = text.trim_matches(['(', ')', '[', ']']);
            let (low, high) = inner.split_once(',')?;
            let bounds: (f64, f64) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
            (bounds.0 <= bounds.1).then_some(bounds)
        })
    }

    /// Reads any text.
    pub(super) fn text(&self, key: &'static str, default: &str) -> String {
        self.known.borrow_mut().push(key);
        self.params.get(key).map_or_else(|| default.to_owned(), Clone::clone)
    }

    /// Returns the error for a parameter whose value does not fit the model.
    pub(super) fn refuse(&self, key: &str, expected: impl Into<String>) -> EnvError {
        EnvError::Parameter {
            env: self.env,
            key: key.into(),
            value: self.params.get(key).cloned().unwrap_or_default(),
            expected: expected.into(),
        }
    }

    /// Refuses parameters that have not been read.
    pub(super) fn finish(&self) -> Result<(), EnvError> {
        check_params(self.env, self.params, &self.known.borrow())
    }

    fn parse<T>(
        &self,
        key: &'static str,
        default: T,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, EnvError> {
        self.known.borrow_mut().push(key);
        let Some(text) = self.params.get(key) else { return Ok(default) };
        parse(text.trim()).ok_or_else(|| self.refuse(key, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(key: &str, value: &str) -> EnvParams {
        EnvParams::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_range_is_read_as_python_writes_it_and_as_people_do() {
        for text in ["-inf,0.5", "(-inf, 0.5)", "[-inf,0.5]"] {
            let params = params("r", text);
            let range = Options::new("E", &params).range("r", (0.0, 0.0)).unwrap();
            assert_eq!(range, (f64::NEG_INFINITY, 0.5), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_can() {
        let message = |value: &str, read: fn(&Options<'_>) -> Result<(), EnvError>| {
            read(&Options::new("E", &params("k", value))).unwrap_err().to_string()
        };
        let range = |options: &Options<'_>| options.range("k", (0.0, 1.0)).map(drop);
        let expected = "E: parameter k = 2,1: expected LOW,HIGH with LOW not above HIGH";
        assert_eq!(message("2,1", range), expected);
        assert!(message("1", range).contains("LOW,HIGH"));
        assert!(message("nan", |options| options.number("k", 0.0).map(drop)).contains("a number"));
        assert!(message("yes", |options| options.switch("k", true).map(drop)).contains("true or"));
    }

    #[test]
    fn a_parameter_that_nobody_reads_is_refused_with_those_that_are() {
        let params = params("colour", "red");
        let options = Options::new("E", &params);
        options.number("weight", 1.0).unwrap();
        let error = options.finish().unwrap_err().to_string();
        assert_eq!(error, "E: parameter colour = red: expected one of [\"weight\"]");
    }
}
