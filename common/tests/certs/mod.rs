//! Creates a separate CA for each test, and valid and invalid certificates.

use common::tls::Paths;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use std::path::Path;
use time::{Duration, OffsetDateTime};

/// A certificate authority.
#[derive(Debug)]
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    /// Certificate of the CA in PEM.
    pub(crate) pem: String,
}

/// Content of a certificate to issue.
#[derive(Debug, Clone)]
pub(crate) struct Leaf<'l> {
    /// URIs in the SubjectAltName.
    pub(crate) uris: Vec<&'l str>,
    /// Host names and addresses in the SubjectAltName.
    pub(crate) hosts: Vec<&'l str>,
    /// Validity period: first and last day, relative to today.
    pub(crate) valid: [i64; 2],
}

/// Returns the content of a certificate that is valid today for loopback.
pub(crate) fn leaf(uri: &str) -> Leaf<'_> {
    Leaf { uris: vec![uri], hosts: vec!["localhost", "127.0.0.1", "::1"], valid: [-1, 30] }
}

impl Ca {
    /// Creates a new CA of this name. Its key differs from those of all other CAs.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params([-400, 4000]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Issues a certificate. Returns certificate and key in PEM.
    pub(crate) fn issue(&self, leaf: &Leaf<'_>) -> [String; 2] {
        let mut params = params(leaf.valid);
        let uris = leaf.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        let hosts = leaf.hosts.iter().map(|host| match host.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*host).try_into().unwrap()),
        });
        params.subject_alt_names = uris.chain(hosts).collect();
        params.distinguished_name.push(DnType::CommonName, "a test");
        let key = KeyPair::generate().unwrap();
        [params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem()]
    }

    /// Writes the files of a process that trusts the CAs in `believed` and has a certificate from this CA.
    pub(crate) fn files(&self, folder: &Path, believed: &[&Self], leaf: &Leaf<'_>) -> Paths {
        let [cert, key] = self.issue(leaf);
        let ca: String = believed.iter().map(|ca| ca.pem.as_str()).collect();
        write(folder, [&ca, &cert, &key])
    }
}

/// Writes CA, certificate and key under the file names used in a cluster.
pub(crate) fn write(folder: &Path, texts: [&str; 3]) -> Paths {
    std::fs::create_dir_all(folder).unwrap();
    let [ca, cert, key] = ["ca.crt", "tls.crt", "tls.key"].map(|name| folder.join(name));
    for (path, text) in [&ca, &cert, &key].into_iter().zip(texts) {
        std::fs::write(path, text).unwrap();
    }
    let [ca, cert, key] = [ca, cert, key].map(|path| path.to_str().unwrap().to_owned());
    Paths { ca, cert, key }
}

fn params(valid: [i64; 2]) -> CertificateParams {
    let [from, until] = valid.map(|days| OffsetDateTime::now_utc() + Duration::days(days));
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (from, until);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}
