//! `tls`: TLS with etcd. The server's certificate is always verified.
//!
//! The client of etcd reports a failed handshake as "transport error". So one is made before, whose
//! error says what is wrong with the certificates.

use std::sync::Arc;

use etcd_client::{Certificate, Identity, TlsOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use super::super::tls_files::{self, TlsSet, server_name};

/// How a client of HTTP/2 begins (RFC 9113, section 3.4): the preface, and empty settings.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The settings for the client of etcd.
pub(super) fn options(set: &TlsSet) -> TlsOptions {
    let options = TlsOptions::new().ca_certificate(Certificate::from_pem(&set.texts.ca));
    match &set.texts.identity {
        Some((certificate, key)) => options.identity(Identity::from_pem(certificate, key)),
        None => options,
    }
}

/// Makes a handshake, and reads what the server says first: it refuses a client's certificate only
/// after the handshake.
pub(super) async fn check(stream: TcpStream, host_and_port: &str, set: &TlsSet) -> Result<(), String> {
    let mut config = ClientConfig::clone(&set.client);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = server_name(host_and_port)?;
    let handshake = async {
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        stream.write_all(BEGIN).await?;
        stream.read_u8().await
    };
    handshake.await.map(drop).map_err(|error: std::io::Error| match tls_files::error_within(&error) {
        Some(error) => tls_files::reason("ownership.etcd", error),
        None => format!("no TLS with it, {error}; does it speak TLS there?"),
    })
}
