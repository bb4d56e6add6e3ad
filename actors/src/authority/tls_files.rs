//! `tls_files`: certificates and keys in files, which are read again when they change.
//!
//! A program that renews a certificate writes its file anew. A node may read that file half
//! written, or find a new certificate beside the old key. So a set of files counts only if its
//! parts fit together. Until then the last good set stays in use.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};

use super::AuthorityError;

/// The files of one authority's TLS.
pub(super) struct TlsFiles {
    /// The table of the config, for errors.
    table: &'static str,
    ca: PathBuf,
    /// Certificate and key of this node.
    identity: Option<(PathBuf, PathBuf)>,
    last: RefCell<Arc<TlsSet>>,
}

/// What the files held, and the settings made of it.
pub(super) struct TlsSet {
    pub(super) texts: Texts,
    pub(super) client: Arc<ClientConfig>,
}

/// The contents of the files.
#[derive(PartialEq, Eq)]
pub(super) struct Texts {
    pub(super) ca: Vec<u8>,
    /// Certificate and key of this node.
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsFiles {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// If one cannot be read, or holds no certificate or key, or the key is of another certificate.
    pub(super) fn open(
        table: &'static str,
        ca: &Path,
        certificate: Option<&Path>,
        key: Option<&Path>,
    ) -> Result<TlsFiles, AuthorityError> {
        let ca = ca.to_owned();
        let identity = certificate.zip(key).map(|(certificate, key)| (certificate.to_owned(), key.to_owned()));
        let set = Texts::read(table, &ca, identity.as_ref())
            .and_then(|texts| texts.set(table, &ca, identity.as_ref()))
            .map_err(AuthorityError)?;
        Ok(TlsFiles { table, ca, identity, last: RefCell::new(Arc::new(set)) })
    }

    /// What the files hold now; the last good set while they are damaged.
    pub(super) fn current(&self) -> Arc<TlsSet> {
        let last = self.last.borrow().clone();
        let (table, identity) = (self.table, self.identity.as_ref());
        let texts = Texts::read(table, &self.ca, identity);
        if texts.as_ref().is_ok_and(|texts| *texts == last.texts) {
            return last;
        }
        match texts.and_then(|texts| texts.set(table, &self.ca, identity)) {
            Ok(set) => {
                tracing::info!(
                    event = "certificates_read",
                    table,
                    "the certificates have changed and are used from now on"
                );
                let set = Arc::new(set);
                *self.last.borrow_mut() = set.clone();
                set
            }
            Err(reason) => {
                tracing::warn!(
                    event = "certificates_refused",
                    reason,
                    "the certificates have changed and are of no use; the previous ones stay in use"
                );
                last
            }
        }
    }
}

impl Texts {
    fn read(table: &str, ca: &Path, identity: Option<&(PathBuf, PathBuf)>) -> Result<Texts, String> {
        let read = |key: &str, path: &Path| {
            std::fs::read(path)
                .map_err(|error| format!("{table}.{key} {path:?} cannot be read, {error}; use a PEM file"))
        };
        let identity = match identity {
            Some((certificate, key)) => Some((read("certificate", certificate)?, read("key", key)?)),
            None => None,
        };
        Ok(Texts { ca: read("ca", ca)?, identity })
    }

    /// Makes settings of it. Each error names the file.
    fn set(self, table: &str, ca: &Path, identity: Option<&(PathBuf, PathBuf)>) -> Result<TlsSet, String> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&format!("{table}.ca {ca:?}"), &self.ca)? {
            let refused = |error| format!("{table}.ca {ca:?} holds a damaged certificate, {error}; write it anew");
            roots.add(root).map_err(refused)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let client = match (&self.identity, identity) {
            (Some((certificate_text, key_text)), Some((certificate, key))) => {
                let chain = certificates(&format!("{table}.certificate {certificate:?}"), certificate_text)?;
                let no_key =
                    |error| format!("{table}.key {key:?} holds no whole key, {error}; use a PEM file of one key");
                let key = PrivateKeyDer::from_pem_slice(key_text).map_err(no_key)?;
                let refused = |error| {
                    format!(
                        "{table}.certificate {certificate:?} and {table}.key do not fit together, {error}; use a pair"
                    )
                };
                builder.with_client_auth_cert(chain, key).map_err(refused)?
            }
            (Some(_), None) | (None, _) => builder.with_no_client_auth(),
        };
        Ok(TlsSet { texts: self, client: Arc::new(client) })
    }
}

/// The certificates in a text, at least one. `what` names the file.
fn certificates(what: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let damaged = |error| format!("{what} holds no whole certificate, {error}; use a PEM file of certificates");
    let all = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().map_err(damaged)?;
    // What comes after the last whole certificate, and has only begun, is no error of the reader.
    let begun = text.windows(BEGIN.len()).filter(|window| *window == BEGIN).count();
    if all.is_empty() || all.len() < begun {
        return Err(format!("{what} holds no whole certificate; use a PEM file of certificates"));
    }
    Ok(all)
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// The name that has to be in the certificate of a server at this host and port.
pub(super) fn server_name(host_and_port: &str) -> Result<ServerName<'static>, String> {
    let name = host_and_port.rsplit_once(':').map_or(host_and_port, |(name, _)| name).trim_matches(['[', ']']);
    ServerName::try_from(name.to_owned())
        .map_err(|error| format!("{name:?} is no name that a certificate can have, {error}"))
}

/// The error of TLS that is the reason of an error, if one is.
pub(super) fn error_within<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An error of a stream hides the one that it holds.
        let within = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        let of_stream = within.and_then(|error| error.downcast_ref());
        if let Some(error) = error.downcast_ref().or(of_stream) {
            return Some(error);
        }
        next = error.source();
    }
    None
}

/// What is wrong with the certificates, and what would be right.
pub(super) fn reason(table: &str, error: &rustls::Error) -> String {
    // Not our own enums: of their many variants these happen.
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            format!("its certificate has expired, {error}; renew it")
        }
        // rustls has this one for a signature that the CA of the same name did not make.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            format!("its certificate is of another CA, {error}; put the right one into {table}.ca")
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("its certificate is for another name, {error}; connect to a name that is in it"),
        rustls::Error::AlertReceived(_) => {
            format!(
                "it refuses our certificate, {error}; set {table}.certificate and {table}.key to ones that it trusts"
            )
        }
        _ => format!("no TLS with it, {error}; does it speak TLS there?"),
    }
}
