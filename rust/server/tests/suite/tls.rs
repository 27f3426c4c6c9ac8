//! HTTPS and `wss://`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rushlight_server::tls::TlsFiles;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::server;

/// Writes a certificate for `localhost`; gives its files and what a client must trust.
fn certificate(folder: &Path) -> (TlsFiles, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let files = TlsFiles { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (files, made.cert.der().clone())
}

async fn connect(addr: SocketAddr, trusted: CertificateDer<'static>) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn https_and_wss_are_served_with_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (files, trusted) = certificate(folder.path());
    let mut settings = server::settings();
    settings.tls = Some(files);
    settings.api_tokens = vec!["secret".into()];
    settings.limits.head_timeout = Duration::from_millis(500);
    let running = server::start_with(settings).await;
    let addr = running.addr();

    let mut stream = connect(addr, trusted.clone()).await;
    let head = format!("GET /queue?token=secret HTTP/1.0\r\nHost: localhost:{}\r\n\r\n", addr.port());
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(answer.ends_with(r#"{"queue_running":[],"queue_pending":[]}"#), "{answer}");

    let mut stream = connect(addr, trusted.clone()).await;
    let head = format!(
        "GET /?token=secret HTTP/1.0\r\nHost: localhost:{}\r\nAccept: text/html\r\n\r\n",
        addr.port()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("; HttpOnly; SameSite=Strict; Secure\r\n"), "{answer}");

    let url = format!("wss://localhost:{}/ws?clientId=tls&token=secret", addr.port());
    let (mut socket, _) = tokio_tungstenite::client_async(url, connect(addr, trusted).await).await.unwrap();
    let first = socket.next().await.unwrap().unwrap();
    assert!(first.to_text().unwrap().contains(r#""sid":"tls""#), "{first}");

    // Who does not speak TLS, or says nothing at all, is cut off.
    for said in [&b"GET /queue HTTP/1.0\r\n\r\n"[..], b""] {
        let mut plain = TcpStream::connect(addr).await.unwrap();
        plain.write_all(said).await.unwrap();
        let mut heard = Vec::new();
        let cut = tokio::time::timeout(Duration::from_secs(5), plain.read_to_end(&mut heard)).await;
        assert!(cut.is_ok());
        assert!(!String::from_utf8_lossy(&heard).contains("queue_running"));
    }
    running.shutdown().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_says_which_file_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let (files, _) = certificate(folder.path());
    let no_key = TlsFiles { key: files.certificate.clone(), ..files.clone() };
    let no_file = TlsFiles { certificate: folder.path().join("none.pem"), ..files };
    for (files, named) in [(no_key, "cert.pem"), (no_file, "none.pem")] {
        let mut settings = server::settings();
        settings.tls = Some(files);
        let error = server::try_start(settings).await.err().unwrap().to_string();
        assert!(error.starts_with("TLS: ") && error.contains(named), "{error}");
    }
}
