//! Reasons why a connection failed, as messages for the operator who must fix it.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Describes why a handshake failed, as seen from this side.
pub fn explain(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => refused_by_peer(*alert),
        Error::InvalidCertificate(error) => refused_by_us(error),
        Error::NoCertificatesPresented => "the other side shows no certificate".to_owned(),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the other side does not speak TLS, is [tls] set there?".to_owned()
        }
        error => error.to_string(),
    }
}

/// Describes an alert of the other side. An alert is only a number. The alerts handled here are the ones that our own
/// verifiers send.
fn refused_by_peer(alert: AlertDescription) -> String {
    let why = match alert {
        AlertDescription::UnknownCA => "it does not trust the CA of this process's certificate",
        AlertDescription::DecryptError => {
            "it does not trust the CA of this process's certificate, only one of the same name"
        }
        AlertDescription::CertificateExpired => {
            "this process's certificate is expired or not yet valid"
        }
        AlertDescription::CertificateUnknown => {
            "the role of this process's certificate has no business there"
        }
        AlertDescription::CertificateRequired => "it asks for a certificate",
        AlertDescription::BadCertificate => {
            "this process's certificate does not name the host by which it was reached"
        }
        alert => return format!("the other side ended the connection: {alert:?}"),
    };
    format!("the other side refuses: {why}")
}

/// Returns the host in a name formatted by rustls: a kind, then the name in parentheses.
fn host(name: &str) -> Option<&str> {
    let (kind, name) = name.split_once('(')?;
    let is_host = matches!(kind, "DnsName" | "IpAddress");
    is_host.then(|| name.trim_end_matches(')').trim_matches('"'))
}

fn refused_by_us(error: &CertificateError) -> String {
    let its = "the other side's certificate";
    match error {
        CertificateError::UnknownIssuer => format!("{its} is not from a CA in tls.ca"),
        CertificateError::BadSignature => {
            format!("{its} is not from a CA in tls.ca, only from one of the same name")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("{its} is expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("{its} is not yet valid")
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let hosts: Vec<&str> = presented.iter().filter_map(|name| host(name)).collect();
            let hosts = if hosts.is_empty() { "no host".to_owned() } else { hosts.join(", ") };
            format!("{its} is for {hosts}, not for {}", expected.to_str())
        }
        CertificateError::Other(error) => format!("{its} {error}"),
        error => format!("{its} is refused: {error}"),
    }
}
