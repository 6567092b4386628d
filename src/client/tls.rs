//! `wss`: whom a client trusts, and what it says when it does not.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::options::ClientOptions;
use crate::quiet::Quiet;
use crate::tls;
use crate::{Error, ErrorCode};

/// A stream whose handshake is done.
pub(crate) type Stream = tokio_rustls::client::TlsStream<Quiet>;

/// Servers whose tickets a client keeps, to come back with less work: it has one.
const REMEMBERED_SERVERS: usize = 1;

/// What the clients share that trust the system's authorities: those are about 150 certificates, and
/// reading them takes milliseconds.
static BY_SYSTEM: Mutex<Weak<ClientConfig>> = Mutex::new(Weak::new());

/// Whom a client trusts, and how it shows who it is.
#[derive(Clone)]
pub(crate) struct Trust(Arc<ClientConfig>);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// Reads the files of the options; `INVALID_ARGUMENT` with the file and the reason, `TLS_FAILED` when
    /// the system has no authorities.
    pub(crate) fn new(options: &ClientOptions) -> Result<Trust, Error> {
        let invalid = |message: String| Error::new(ErrorCode::InvalidArgument, message);
        let identity = match (&options.client_cert_file, &options.client_key_file) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
            _ => {
                let message = "a client certificate needs both files, client_cert_file and client_key_file";
                return Err(Error::new(ErrorCode::InvalidArgument, message));
            }
        };
        let by_system = options.ca_file.is_none() && identity.is_none();
        if by_system {
            if let Some(config) = BY_SYSTEM.lock().unwrap_or_else(PoisonError::into_inner).upgrade() {
                return Ok(Trust(config));
            }
        }
        let roots = match &options.ca_file {
            Some(path) => tls::authorities(path).map_err(invalid)?,
            None => tls::system_authorities("ca_file; sstore: --ca-file")?,
        };
        let mut config = tls::client_config(roots, identity).map_err(invalid)?;
        config.alpn_protocols = vec![tls::PROTOCOL.to_vec()];
        if !by_system {
            config.resumption = Resumption::in_memory_sessions(REMEMBERED_SERVERS);
        }
        let config = Arc::new(config);
        if by_system {
            *BY_SYSTEM.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&config);
        }
        Ok(Trust(config))
    }

    /// Takes a connection through the handshake. `host` is the name that the server's certificate must have.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> Result<Stream, Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            Error::new(ErrorCode::InvalidUrl, format!("{host} is no host name that a certificate can have"))
        })?;
        TlsConnector::from(self.0.clone()).connect(name, stream.into()).await.map_err(|error| {
            explain(&error).unwrap_or_else(|| {
                let message = "the server closed the connection during the TLS handshake";
                Error::new(ErrorCode::ConnectionFailed, message)
            })
        })
    }
}

/// Why TLS failed, if it is that.
pub(crate) fn explain(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let message = match root(error)? {
        rustls::Error::InvalidCertificate(what) => certificate(what),
        rustls::Error::NoCertificatesPresented => "the server has no certificate".into(),
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                "the server asks for a client certificate; give one (client_cert_file and client_key_file; sstore: \
                 --client-cert and --client-key)"
                    .into()
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied => {
                format!("the server does not accept the client certificate ({alert:?}); ask who runs it for one")
            }
            alert => format!("the server broke the TLS handshake off ({alert:?})"),
        },
        rustls::Error::InvalidMessage(_) => {
            "what answers at this address does not speak TLS; write ws:// instead of wss:// (http:// instead of \
             https://), or check the port"
                .into()
        }
        other => format!("no secure connection can be made: {other}"),
    };
    Some(Error::new(ErrorCode::TlsFailed, message))
}

/// What TLS says at the bottom of an error, below whatever passed it on.
fn root<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut error = error;
    loop {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        error = match error.downcast_ref::<io::Error>() {
            // Its source would be that of what it holds.
            Some(holder) => holder.get_ref()?,
            None => error.source()?,
        };
    }
}

/// What is wrong with the server's certificate, and what to do.
fn certificate(what: &CertificateError) -> String {
    match what {
        // A bad signature: the authority has the name of one that is trusted, and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the server's certificate is signed by nobody this client trusts; if the \
                                            server's authority is your own, give its certificate (ca_file; sstore: --ca-file)"
                .into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired; renew it, or check this machine's clock".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet; check this machine's clock".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for another host name; use the name it was made for in the URL".into()
        }
        CertificateError::Revoked => "the server's certificate was revoked; it needs another one".into(),
        other => format!("the server's certificate cannot be used: {other}"),
    }
}
