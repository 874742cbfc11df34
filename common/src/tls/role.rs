//! Roles: a certificate lets a process be one of them, and each port serves some of them.

use rustls::pki_types::CertificateDer;
use std::fmt;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Every role's URI begins with it.
const SCHEME: &str = "sapex://";

/// The part of a process in a run, by the URI in its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Samples, and publishes weights.
    Learner,
    /// Keeps rows.
    ReplayServer,
    /// Acts, or evaluates.
    ActorNode,
}

/// Why a certificate makes nobody anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// Not X.509.
    #[error("cannot be read")]
    Unreadable,
    /// Without a URI of ours.
    #[error("names no role: a URI such as sapex://role/learner in its SubjectAltName")]
    Missing,
    /// A URI of ours that means nothing.
    #[error("names the role {0:?}, which does not exist")]
    Unknown(String),
    /// More than one.
    #[error("names several roles")]
    Several,
    /// A role, but another one.
    #[error("has the role {has}, expected {}", Names(expected))]
    Other {
        /// Its role.
        has: Role,
        /// Roles that would do.
        expected: &'static [Role],
    },
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Learner, Self::ReplayServer, Self::ActorNode];

    /// As its program is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::ReplayServer => "replay-server",
            Self::ActorNode => "actor-node",
        }
    }

    /// As a list of one.
    pub(super) const fn alone(self) -> &'static [Self] {
        match self {
            Self::Learner => &[Self::Learner],
            Self::ReplayServer => &[Self::ReplayServer],
            Self::ActorNode => &[Self::ActorNode],
        }
    }

    /// As it stands in a certificate.
    pub fn uri(self) -> String {
        format!("{SCHEME}role/{}", self.name())
    }

    /// Whether such a process binds a port for others.
    pub fn serves(self) -> bool {
        Conversation::ALL.iter().any(|conversation| conversation.server() == self)
    }

    /// Whether such a process connects to others.
    pub fn asks(self) -> bool {
        Conversation::ALL.iter().any(|conversation| conversation.clients().contains(&self))
    }

    /// The role that a certificate names.
    ///
    /// # Errors
    /// It names none, several, or one that does not exist. Whom the certificate is from is not asked.
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

    /// The role that a certificate names, if it is one of `expected`.
    ///
    /// # Errors
    /// As [`Role::of`]; it is another one.
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

/// Roles in a sentence.
struct Names<'r>(&'r [Role]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, role) in self.0.iter().enumerate() {
            write!(f, "{}{role}", if at > 0 { " or " } else { "" })?;
        }
        Ok(())
    }
}

/// The subject of a port: it decides who serves the port and who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversation {
    /// Requests and replies at a replay server.
    Rows,
    /// News of the learner's weights.
    Weights,
}

impl Conversation {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Rows, Self::Weights];

    /// Who binds the port.
    pub const fn server(self) -> Role {
        match self {
            Self::Rows => Role::ReplayServer,
            Self::Weights => Role::Learner,
        }
    }

    /// Who may connect.
    pub const fn clients(self) -> &'static [Role] {
        match self {
            Self::Rows => &[Role::Learner, Role::ActorNode],
            Self::Weights => &[Role::ActorNode],
        }
    }
}
