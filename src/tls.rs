//! What both sides need for TLS: the cryptography, and files in PEM.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
#[cfg(any(feature = "client", feature = "http"))]
use rustls::ClientConfig;
use rustls::RootCertStore;

#[cfg(any(feature = "client", feature = "http"))]
use crate::{Error, ErrorCode};

/// Largest file of certificates or keys, in bytes. All the authorities that systems trust take a quarter of
/// a MiB; a path that leads to a log or a device must not fill the memory.
const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;

/// The only protocol spoken inside TLS. Browsers that offer others as well must choose this one.
pub(crate) const PROTOCOL: &[u8] = b"http/1.1";

/// The cryptography. It is given to each configuration, because the process-wide default is not ours: this
/// is a library in somebody's program.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A chain of certificates. Errors are sentences with the file and the reason.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(format!("{} has no certificate in PEM", path.display())),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{} is not PEM: {error}", path.display())),
    }
}

/// A private key: PKCS #8, SEC 1 or PKCS #1. The reason never quotes the file.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| format!("{} has no private key in PEM, or it is encrypted", path.display()))
}

/// Authorities that are trusted.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            format!("{} has a certificate that cannot be used as an authority: {error}", path.display())
        })?;
    }
    Ok(roots)
}

/// The authorities that this system trusts. `option` names what can give a file of others.
///
/// Errors: `TLS_FAILED` when there are none.
#[cfg(any(feature = "client", feature = "http"))]
pub(crate) fn system_authorities(option: &str) -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems keep old certificates that no longer count; those are left out.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let message = format!(
            "this system has no certificate authorities to trust; install them (the package is often called \
             ca-certificates), or give a file of them ({option})"
        );
        return Err(Error::new(ErrorCode::TlsFailed, message));
    }
    Ok(roots)
}

/// How a client speaks TLS: whom it trusts, and with which certificate and key it shows who it is. Errors are sentences
/// with the files and the reason.
#[cfg(any(feature = "client", feature = "http"))]
pub(crate) fn client_config(roots: RootCertStore, identity: Option<(&Path, &Path)>) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    builder.with_client_auth_cert(certificates(certificate)?, private_key(key)?).map_err(|error| {
        let (certificate, key) = (certificate.display(), key.display());
        match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("the key in {key} is not that of the first certificate in {certificate}")
            }
            error => format!("the certificate in {certificate} with the key in {key} cannot be used: {error}"),
        }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let cannot = |error: std::io::Error| format!("{shown} cannot be read: {}", error.kind());
    let mut bytes = Vec::new();
    File::open(path).map_err(cannot)?.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_PEM_BYTES {
        return Err(format!("{shown} is larger than {MAX_PEM_BYTES} bytes, so it is no file of certificates or keys"));
    }
    Ok(bytes)
}
