//! [`Identity`]: the three files of `[tls]`, read together and accepted only if they fit each other.

use super::TlsError;
use super::paths::Paths;
use super::role::{Conversation, Role};
use super::verifier::RoleVerifier;
use crate::limits::TLS_FILE_BYTES_MAX;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The contents of the three files.
pub(super) struct Files {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    pub(super) fn read(paths: &Paths) -> Result<Self, TlsError> {
        Ok(Self {
            ca: read("tls.ca", &paths.ca)?,
            cert: read("tls.cert", &paths.cert)?,
            key: read("tls.key", &paths.key)?,
        })
    }

    /// Returns a digest of all three files. Modification times are not sufficient to detect a change, because the files
    /// may be links.
    pub(super) fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for file in [&self.ca, &self.cert, &self.key] {
            hasher.update(blake3::hash(file).as_bytes());
        }
        hasher.finalize()
    }
}

fn read(key: &'static str, path: &str) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let limit = TLS_FILE_BYTES_MAX as u64 + 1;
    let file = fs_err::File::open(Path::new(path))
        .and_then(|file| file.take(limit).read_to_end(&mut bytes));
    match file {
        Ok(_) if bytes.len() <= TLS_FILE_BYTES_MAX => Ok(bytes),
        Ok(_) => Err(TlsError::new(key, format!("has more than {TLS_FILE_BYTES_MAX} bytes"))),
        Err(error) => Err(TlsError::new(key, error.to_string())),
    }
}

/// The TLS settings of this process: its own certificate and key, and the CAs that it trusts.
#[derive(Debug)]
pub(super) struct Identity {
    servers: [Arc<ServerConfig>; 2],
    clients: [Arc<ClientConfig>; 2],
    /// Expiry of this process's certificate, and of the CA that expires last.
    pub(super) expiry: Expiry,
}

/// Times of expiry, Unix time in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry {
    pub(super) ca: i64,
    pub(super) cert: i64,
}

/// Validity period of a certificate, Unix time in seconds.
#[derive(Debug, Clone, Copy)]
struct Validity {
    from: i64,
    until: i64,
}

impl Identity {
    /// Builds the TLS settings of a process of this role, and checks that the files fit each other.
    ///
    /// # Errors
    /// Returns an error that names the first file that is invalid or does not fit the others.
    pub(super) fn new(files: &Files, role: Role) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let cas = certificates("tls.ca", &files.ca)?;
        let chain = certificates("tls.cert", &files.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&files.key)
            .map_err(|error| TlsError::new("tls.key", format!("holds no private key: {error}")))?;
        let mut roots = RootCertStore::empty();
        for ca in &cas {
            let added = roots.add(ca.clone());
            added.map_err(|error| TlsError::new("tls.ca", format!("holds no CA: {error}")))?;
        }
        let roots = Arc::new(roots);
        let verifiers = Verifiers::new(&roots, &provider)?;
        let validity = validity("tls.cert", &chain[0])?;
        Role::among(role.alone(), &chain[0])
            .map_err(|error| TlsError::new("tls.cert", error.to_string()))?;
        verifiers.check_own(&roots, &provider, &chain, role, validity)?;
        let [rows, weights] = Conversation::ALL;
        let server = |of| verifiers.server(&provider, of, &chain, &key);
        let client = |of| verifiers.client(&provider, of, &chain, &key);
        Ok(Self {
            servers: [server(rows)?, server(weights)?],
            clients: [client(rows)?, client(weights)?],
            expiry: Expiry { ca: last_ca(&files.ca)?, cert: validity.until },
        })
    }

    pub(super) fn server(&self, of: Conversation) -> Arc<ServerConfig> {
        self.servers[of as usize].clone()
    }

    pub(super) fn client(&self, of: Conversation) -> Arc<ClientConfig> {
        self.clients[of as usize].clone()
    }
}

/// Returns the cryptography provider. AES-128 comes first: it is the fastest on processors with AES instructions.
fn provider() -> CryptoProvider {
    use ring::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let cipher_suites =
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    CryptoProvider { cipher_suites, ..ring::default_provider() }
}

fn certificates(key: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(TlsError::new(key, "holds no certificate in PEM".to_owned())),
        Err(error) => Err(TlsError::new(key, format!("is not PEM: {error}"))),
    }
}

fn validity(key: &'static str, certificate: &CertificateDer<'_>) -> Result<Validity, TlsError> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| TlsError::new(key, format!("is not X.509: {error}")))?;
    let validity = certificate.validity();
    Ok(Validity { from: validity.not_before.timestamp(), until: validity.not_after.timestamp() })
}

/// Returns when the last of these CAs expires, Unix time in seconds.
pub(super) fn last_ca(pem: &[u8]) -> Result<i64, TlsError> {
    let until = |ca: &CertificateDer<'_>| Ok(validity("tls.ca", ca)?.until);
    let until: Vec<i64> =
        certificates("tls.ca", pem)?.iter().map(until).collect::<Result<_, _>>()?;
    Ok(until.into_iter().max().unwrap_or_default())
}

/// The certificate verifiers that rustls builds from the CAs.
struct Verifiers {
    servers: Arc<dyn ServerCertVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Verifiers {
    fn new(roots: &Arc<RootCertStore>, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let refused = |error: &dyn std::error::Error| TlsError::new("tls.ca", error.to_string());
        let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        Ok(Self {
            servers: servers.build().map_err(|error| refused(&error))?,
            clients: clients.build().map_err(|error| refused(&error))?,
        })
    }

    /// Checks that peers with the same CAs would accept this certificate. Ignores the present time, because files that
    /// have expired or are not yet valid can still fit each other.
    fn check_own(
        &self,
        roots: &RootCertStore,
        provider: &CryptoProvider,
        chain: &[CertificateDer<'_>],
        role: Role,
        validity: Validity,
    ) -> Result<(), TlsError> {
        let at = validity.from.max(0).midpoint(validity.until.max(0));
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or(0)));
        let (own, between) = chain.split_first().expect("a certificate was read");
        let refused = |usage: &str, error: rustls::Error| {
            let problem = format!("does not hold as a {usage}'s by the CAs in tls.ca: {error}");
            TlsError::new("tls.cert", problem)
        };
        if role.serves() {
            let algorithms = provider.signature_verification_algorithms.all;
            ParsedCertificate::try_from(own)
                .and_then(|own| {
                    verify_server_cert_signed_by_trust_anchor(&own, roots, between, at, algorithms)
                })
                .map_err(|error| refused("server", error))?;
        }
        if role.asks() {
            let verified = self.clients.verify_client_cert(own, between, at);
            verified.map_err(|error| refused("client", error))?;
        }
        Ok(())
    }

    fn server(
        &self,
        provider: &Arc<CryptoProvider>,
        of: Conversation,
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let clients = Arc::new(RoleVerifier { roles: of.clients(), inner: self.clients.clone() });
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites of TLS 1.3")
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.to_vec(), key.clone_key())
            .map_err(|error| TlsError::new("tls.key", unfit(&error)))?;
        // No session is resumed: a client that reconnects must show its certificate again, because it may have expired.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn client(
        &self,
        provider: &Arc<CryptoProvider>,
        of: Conversation,
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let servers =
            Arc::new(RoleVerifier { roles: of.server().alone(), inner: self.servers.clone() });
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(servers)
            .with_client_auth_cert(chain.to_vec(), key.clone_key())
            .map_err(|error| TlsError::new("tls.key", unfit(&error)))?;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn unfit(error: &rustls::Error) -> String {
    format!("does not belong to the certificate in tls.cert: {error}")
}
