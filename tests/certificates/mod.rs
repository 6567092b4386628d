//! Certificates made while the tests run: an authority, and what it signs.
#![allow(dead_code)]

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use rcgen::{
    date_time_ymd, BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use sessionstore::TlsOptions;

static MADE: AtomicUsize = AtomicUsize::new(0);

/// A directory of its own for the files of one test.
fn directory() -> PathBuf {
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("certificates-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a directory");
    path
}

/// Somebody who signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// A certificate and its key, as files in PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Identity {
    /// What a server is told to have this certificate.
    pub fn options(&self) -> TlsOptions {
        TlsOptions { certificate: self.certificate.clone(), key: self.key.clone(), client_ca: None }
    }

    /// Puts the contents of another in the place of this one, the way careful programs do.
    pub fn replace_with(&self, other: &Identity) {
        for (to, from) in [(&self.certificate, &other.certificate), (&self.key, &other.key)] {
            let new = to.with_extension("new");
            std::fs::copy(from, &new).expect("copied");
            std::fs::rename(&new, to).expect("renamed");
        }
    }

    /// A copy in files of its own.
    pub fn copy(&self) -> Identity {
        let directory = directory();
        let copy = Identity { certificate: directory.join("cert.pem"), key: directory.join("key.pem") };
        copy.replace_with(self);
        copy
    }
}

impl Authority {
    pub fn new() -> Authority {
        Authority::named(&format!("Authority {}", MADE.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn named(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let authority = Authority { issuer, directory: directory() };
        std::fs::write(authority.file(), authority.issuer.pem()).expect("written");
        authority
    }

    /// The authority's own certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// TLS over a connection to a server of this authority, by a client that knows nothing else of it.
    pub fn secure(&self, stream: TcpStream, identity: Option<&Identity>) -> StreamOwned<ClientConnection, TcpStream> {
        self.secure_by(rustls::DEFAULT_VERSIONS, stream, identity)
    }

    /// The same, by one of these versions of TLS.
    pub fn secure_by(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        stream: TcpStream,
        identity: Option<&Identity>,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::pem_file_iter(&identity.certificate).expect("a certificate");
                let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a key");
                config.with_client_auth_cert(chain.map(|one| one.expect("PEM")).collect(), key).expect("an identity")
            }
        };
        let name = ServerName::try_from("localhost").expect("a name");
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a session"), stream)
    }

    /// A certificate for these host names and addresses.
    pub fn identity(&self, names: &[&str]) -> Identity {
        self.sign(names, |_| ())
    }

    /// A certificate for this machine.
    pub fn server(&self) -> Identity {
        self.identity(&["localhost", "127.0.0.1"])
    }

    /// A certificate whose time is over.
    pub fn expired(&self, names: &[&str]) -> Identity {
        self.sign(names, |params| {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        })
    }

    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let directory = directory();
        let identity = Identity { certificate: directory.join("cert.pem"), key: directory.join("key.pem") };
        std::fs::write(&identity.certificate, certificate.pem()).expect("written");
        std::fs::write(&identity.key, key.serialize_pem()).expect("written");
        identity
    }
}
