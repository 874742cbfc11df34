//! [`TokenFile`]: the secret that `POST /config` requires if other machines can reach the admin port.

use fs_err as fs;
use std::io::Read as _;
use std::path::PathBuf;
use subtle::ConstantTimeEq as _;

/// Allowed lengths of the secret, in bytes.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=512;

/// The file named by `telemetry.admin_token_file`. It is read at every use, so that the secret may be replaced while
/// the process runs.
#[derive(Debug, Clone)]
pub struct TokenFile(PathBuf);

/// Reason why no secret can be read from a file.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// The content of the file is not a valid secret.
    #[error("{path} must hold one secret of {} to {} visible ASCII characters", LENGTH.start(), LENGTH.end())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
    },
}

impl TokenFile {
    /// Refers to the file at this path. The file need not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Reads the secret, without surrounding white space.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or does not hold a valid secret.
    pub fn read(&self) -> Result<String, TokenError> {
        let mut bytes = Vec::new();
        // The limit leaves room for white space around the longest secret.
        let limit = 2 * *LENGTH.end() as u64;
        fs::File::open(&self.0)?.take(limit).read_to_end(&mut bytes)?;
        let secret = bytes.trim_ascii();
        let is_secret = LENGTH.contains(&secret.len()) && secret.iter().all(u8::is_ascii_graphic);
        if !is_secret {
            return Err(TokenError::Malformed { path: self.0.clone() });
        }
        Ok(String::from_utf8_lossy(secret).into_owned())
    }

    /// Returns whether the value of an `Authorization` header carries the secret. The comparison takes the same time
    /// for all wrong secrets of the right length.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or does not hold a valid secret.
    pub fn admits(&self, authorization: Option<&[u8]>) -> Result<bool, TokenError> {
        let secret = self.read()?;
        let given = authorization.and_then(|value| value.strip_prefix(b"Bearer "));
        Ok(given.is_some_and(|given| bool::from(given.ct_eq(secret.as_bytes()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    #[test]
    fn only_the_secret_of_the_moment_is_admitted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let file = TokenFile::at(&path);
        assert!(matches!(file.admits(None), Err(TokenError::Read(_))));
        fs::write(&path, format!("  {SECRET}\n")).unwrap();
        let header = format!("Bearer {SECRET}");
        assert!(file.admits(Some(header.as_bytes())).unwrap());
        for wrong in [None, Some(SECRET), Some("Bearer "), Some("Bearer 0123456789abcdeF")] {
            assert!(!file.admits(wrong.map(str::as_bytes)).unwrap(), "{wrong:?}");
        }
        fs::write(&path, "another secret, with blanks").unwrap();
        let error = file.admits(Some(header.as_bytes())).unwrap_err();
        assert!(error.to_string().contains("must hold one secret of 16 to 512"), "{error}");
        fs::write(&path, "fedcba9876543210").unwrap();
        assert!(!file.admits(Some(header.as_bytes())).unwrap());
    }

    #[test]
    fn a_file_of_any_size_is_read_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for length in [0, 15, 513, 1 << 20] {
            fs::write(&path, vec![b'a'; length]).unwrap();
            assert!(TokenFile::at(&path).read().is_err(), "{length}");
        }
    }
}
