//! Roles: a certificate grants a process one role, and each port serves some roles.

use rustls::pki_types::CertificateDer;
use std::fmt;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Prefix of every role's URI.
const SCHEME: &str = "sapex://";

/// Role of a process in a run, given by the URI in its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Samples rows, updates and publishes weights.
    Learner,
    /// Stores rows.
    ReplayServer,
    /// Acts or evaluates.
    ActorNode,
}

/// Reason why a certificate does not grant the role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// The certificate is not X.509.
    #[error("cannot be read")]
    Unreadable,
    /// The certificate has no URI that begins with `sapex://`.
    #[error("names no role: a URI such as sapex://role/learner in its SubjectAltName")]
    Missing,
    /// The certificate has a URI that begins with `sapex://`, but the URI names no known role.
    #[error("names the role {0:?}, which does not exist")]
    Unknown(String),
    /// The certificate has more than one URI that begins with `sapex://`.
    #[error("names several roles")]
    Several,
    /// The certificate grants a role that is not expected here.
    #[error("has the role {has}, expected {}", Names(expected))]
    Other {
        /// Role that the certificate grants.
        has: Role,
        /// Roles that would be accepted.
        expected: &'static [Role],
    },
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Learner, Self::ReplayServer, Self::ActorNode];

    /// Returns the name of the role, which is also the name of its program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::ReplayServer => "replay-server",
            Self::ActorNode => "actor-node",
        }
    }

    /// Returns a list of this role alone.
    pub(super) const fn alone(self) -> &'static [Self] {
        match self {
            Self::Learner => &[Self::Learner],
            Self::ReplayServer => &[Self::ReplayServer],
            Self::ActorNode => &[Self::ActorNode],
        }
    }

    /// Returns the URI that a certificate for this role contains.
    pub fn uri(self) -> String {
        format!("{SCHEME}role/{}", self.name())
    }

    /// Returns whether a process of this role binds a port for other roles.
    pub fn serves(self) -> bool {
        Conversation::ALL.iter().any(|conversation| conversation.server() == self)
    }

    /// Returns whether a process of this role connects to other roles.
    pub fn asks(self) -> bool {
        Conversation::ALL.iter().any(|conversation| conversation.clients().contains(&self))
    }

    /// Returns the role that a certificate names. Does not check who issued the certificate.
    ///
    /// # Errors
    /// Returns an error if the certificate names no role, several roles, or one that does not exist.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, RoleError> {
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|_| RoleError::Unreadable)?;
        let names = certificate.subject_alternative_name().map_err(|_| RoleError::Unreadable)?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
            _ => None,
        });
        let uri = uris.next().ok_or(RoleError::Missing)?;
        if uris.next().is_some() {
            return Err(RoleError::Several);
        }
        let known = Self::ALL.into_iter().find(|role| role.uri() == uri);
        known.ok_or_else(|| RoleError::Unknown(uri.to_owned()))
    }

    /// Returns the role that a certificate names if it is one of `expected`.
    ///
    /// # Errors
    /// Returns the errors of [`Role::of`], and an error if the role is not expected.
    pub fn among(
        expected: &'static [Self],
        certificate: &CertificateDer<'_>,
    ) -> Result<Self, RoleError> {
        let has = Self::of(certificate)?;
        if expected.contains(&has) { Ok(has) } else { Err(RoleError::Other { has, expected }) }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Formats roles as a list joined by "or".
struct Names<'r>(&'r [Role]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, role) in self.0.iter().enumerate() {
            write!(f, "{}{role}", if at > 0 { " or " } else { "" })?;
        }
        Ok(())
    }
}

/// Kind of conversation on a port. It determines which role serves the port and which roles may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversation {
    /// Requests and replies at a replay server.
    Rows,
    /// Weights published by the learner.
    Weights,
}

impl Conversation {
    /// All conversations.
    pub const ALL: [Self; 2] = [Self::Rows, Self::Weights];

    /// Returns the role that binds the port.
    pub const fn server(self) -> Role {
        match self {
            Self::Rows => Role::ReplayServer,
            Self::Weights => Role::Learner,
        }
    }

    /// Returns the roles that may connect.
    pub const fn clients(self) -> &'static [Role] {
        match self {
            Self::Rows => &[Role::Learner, Role::ActorNode],
            Self::Weights => &[Role::ActorNode],
        }
    }
}
