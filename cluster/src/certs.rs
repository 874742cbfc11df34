//! `sapex certs`: creates a CA and the certificates of a cluster for the `[tls]` section, or renews the certificates of
//! an existing CA.

use crate::cli::CertsArgs;
use crate::progress::say;
use anyhow::Context as _;
use common::process::Usage;
use common::runtime::clock::Clock;
use common::spec::digest64;
use common::tls::{self, Paths, Role, Tls};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// Validity of a CA in days.
const CA_DAYS: i64 = 3_650;
/// Time between the start of a certificate's validity and its creation. The validity starts earlier than the creation,
/// so that machines with slow clocks accept the certificate.
const CLOCKS_DIFFER: Duration = Duration::HOUR;
/// Number of replay servers whose host names are always in the certificate, in addition to the names from `--host`.
const REPLAYS: usize = 16;
/// Names of the files in a role's folder: CA certificate, the role's certificate and its key.
const FILES: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];

/// Creates the CA and the certificates. If the directory holds a CA with its key, only the certificates are renewed.
///
/// # Errors
/// Returns an error if a file exists that must not be overwritten, if the existing CA is unusable or expires before the
/// new certificates, if a host name is invalid, or if a file cannot be written.
pub fn make(options: &CertsArgs) -> anyhow::Result<()> {
    let now = Clock::system().unix_time().as_secs();
    let now = OffsetDateTime::from_unix_timestamp(now.try_into()?)?;
    let until = now + Duration::days(options.days.into());
    let dir = &options.dir;
    let (ca_cert, ca_key) = (dir.join("ca.crt"), dir.join("ca.key"));
    let is_renewal = is_renewal(dir, [&ca_cert, &ca_key])?;
    let (ca, pem) = if is_renewal { read_ca(&ca_cert, &ca_key, until)? } else { new_ca(now)? };
    // As a check, every certificate is loaded from a temporary folder before any file is replaced.
    let trial = tempfile::tempdir()?;
    let mut made = Vec::new();
    for role in Role::ALL {
        let (cert, key) = certificate(role, &ca, &options.host, [now - CLOCKS_DIFFER, until])?;
        let texts = [pem.clone(), cert, key];
        let [ca, cert, key] = put(&trial.path().join(role.name()), &texts)?
            .map(|path| path.to_string_lossy().into_owned());
        Tls::load(&Paths { ca, cert, key }, role)
            .with_context(|| format!("the certificate of the {role} is of no use"))?;
        made.push((role, texts));
    }
    fs::create_dir_all(dir)?;
    if !is_renewal && !options.forget_ca {
        replace(&ca_key, &ca.key().serialize_pem())?;
        replace(&ca_cert, &pem)?;
    }
    for (role, texts) in made {
        put(&dir.join(role.name()), &texts)?;
    }
    if is_renewal && options.forget_ca {
        fs::remove_file(&ca_key)?;
    }
    report(options, is_renewal, until.date());
    Ok(())
}

/// Writes the files of a role into its folder and returns their paths.
fn put(folder: &Path, texts: &[String; 3]) -> std::io::Result<[PathBuf; 3]> {
    fs::create_dir_all(folder)?;
    let paths = FILES.map(|name| folder.join(name));
    for (path, text) in paths.iter().zip(texts) {
        replace(path, text)?;
    }
    Ok(paths)
}

/// Returns true if the directory holds a CA certificate and its key: the certificates of the roles are then renewed.
/// Returns false if it holds neither. Fails if only one of the two files exists, or if there are certificates of roles
/// but no CA.
fn is_renewal(dir: &Path, [cert, key]: [&Path; 2]) -> anyhow::Result<bool> {
    let kept = |path: &Path| format!("{} is there already", path.display());
    let elsewhere = "nothing is overwritten: choose another directory";
    match (cert.exists(), key.exists()) {
        (true, true) => return Ok(true),
        (true, false) => {
            let why = format!("{} without its key ca.key, so nothing can be renewed", kept(cert));
            return Err(Usage(format!("{why}; {elsewhere}")).into());
        }
        (false, true) => {
            let why = format!("{} without its certificate ca.crt", kept(key));
            return Err(Usage(format!("{why}; {elsewhere}")).into());
        }
        (false, false) => {}
    }
    let files =
        Role::ALL.into_iter().flat_map(|role| FILES.map(|name| dir.join(role.name()).join(name)));
    match files.into_iter().find(|path| path.exists()) {
        Some(path) => {
            Err(Usage(format!("{}, and no CA in {}; {elsewhere}", kept(&path), dir.display()))
                .into())
        }
        None => Ok(false),
    }
}

fn read_ca(
    cert: &Path,
    key: &Path,
    until: OffsetDateTime,
) -> anyhow::Result<(Issuer<'static, KeyPair>, String)> {
    let pem = fs::read_to_string(cert)?;
    let of = |path: &Path| path.display().to_string();
    let key = KeyPair::from_pem(&fs::read_to_string(key)?).with_context(|| of(key))?;
    let ends = OffsetDateTime::from_unix_timestamp(tls::ca_expiry(pem.as_bytes())?)?;
    if ends < until {
        let why = format!("{} expires on {}, before the certificates would", of(cert), ends.date());
        return Err(Usage(format!(
            "{why}: choose fewer --days, or another directory for a new CA"
        ))
        .into());
    }
    Ok((Issuer::from_ca_cert_pem(&pem, key).with_context(|| of(cert))?, pem))
}

/// Creates a CA. The name of the CA is derived from its key and is therefore unique. If a wrong CA is used, its name
/// shows this.
fn new_ca(now: OffsetDateTime) -> anyhow::Result<(Issuer<'static, KeyPair>, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (now - CLOCKS_DIFFER, now + Duration::days(CA_DAYS));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = named(&format!("Sapex CA {:016x}", digest64(key.public_key_raw())));
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// Creates a key for a role, and a certificate for this key. Returns the certificate and the key in PEM.
fn certificate(
    role: Role,
    ca: &Issuer<'_, KeyPair>,
    hosts: &[String],
    [from, until]: [OffsetDateTime; 2],
) -> anyhow::Result<(String, String)> {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (from, until);
    params.distinguished_name = named(&format!("sapex {role}"));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names.push(SanType::URI(role.uri().try_into()?));
    if role.serves() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        for host in own_hosts(role).iter().chain(hosts) {
            let name = match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into().map_err(|_| {
                    Usage(format!("--host {host}: expected a name of ASCII letters or an address"))
                })?),
            };
            params.subject_alt_names.push(name);
        }
    }
    if role.asks() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, ca)?.pem(), key.serialize_pem()))
}

/// Returns the host names of a role on a single machine, in compose and inside a Kubernetes namespace. The names are
/// listed one by one, because TLS verifiers reject a wildcard that is followed by fewer than two labels, such as
/// `*.replay`.
fn own_hosts(role: Role) -> Vec<String> {
    let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(Into::into).into();
    match role {
        Role::Learner => {
            hosts.extend(["learner", "learner-0", "learner-0.learner"].map(Into::into))
        }
        Role::ReplayServer => {
            hosts.push("replay".to_owned());
            hosts.extend((0..REPLAYS).map(|n| format!("replay-{n}")));
            hosts.extend((0..REPLAYS).map(|n| format!("replay-{n}.replay")));
        }
        Role::ActorNode => {}
    }
    hosts
}

/// Writes a file atomically: the content goes to a new file, which is then renamed. The new file is in the same folder,
/// because each folder may be a separate volume and a rename works only within a volume. Only the owner can read key
/// files.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let is_key = path.extension().is_some_and(|extension| extension == "key");
    let mode = if is_key { 0o600 } else { 0o644 };
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}

fn report(options: &CertsArgs, is_renewal: bool, until: time::Date) {
    let dir = options.dir.display();
    if options.forget_ca {
        say("ca          its key is kept nowhere: these certificates cannot be renewed");
    } else {
        let what = if is_renewal { "as before" } else { "new" };
        say(&format!(
            "ca          {dir}/ca.crt, {what}; whoever has its key {dir}/ca.key can be everybody"
        ));
    }
    for role in Role::ALL {
        let what = if is_renewal { "renewed" } else { "new" };
        say(&format!("{role:<12}{dir}/{role}, {what}, until {until}"));
    }
}
