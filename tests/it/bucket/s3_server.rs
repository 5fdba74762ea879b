//! An S3 server in this process, with a list of what it was asked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{ACCESS_KEY, BUCKET, SECRET_KEY};

/// The server; it ends with the test's runtime.
pub struct S3Server {
    /// Where it listens.
    pub address: SocketAddr,
    home: Arc<TempDir>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<String>>,
    /// The object that unfinished uploads are said to be of. The server itself does not list them.
    unfinished: Mutex<Option<String>>,
    /// Objects whose names end like this cannot be written.
    held: Mutex<Option<String>>,
}

impl S3Server {
    /// Over plain HTTP.
    pub async fn start() -> S3Server {
        S3Server::start_with(None).await
    }

    /// With a certificate, or without.
    pub async fn start_with(tls: Option<TlsAcceptor>) -> S3Server {
        let home = Arc::new(tempfile::tempdir().unwrap());
        std::fs::create_dir(home.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(home.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let answering = Answering { service, shared: Arc::clone(&shared), home: Arc::clone(&home) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answering, tls) = (answering.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answering.serve(stream).await,
                        // A client that does not believe us hangs up.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answering.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        S3Server { address, home, shared }
    }

    /// Where the server keeps an object.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(BUCKET).join(name)
    }

    /// Parts of unfinished uploads that the server holds.
    pub fn part_count(&self) -> usize {
        part_names(&self.home).len()
    }

    /// Methods and paths of the requests since the last call.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.requests.lock().unwrap())
    }

    /// Lists unfinished uploads from now on, all as those of one object.
    pub fn list_unfinished_as(&self, name: &str) {
        *self.shared.unfinished.lock().unwrap() = Some(name.to_owned());
    }

    /// From now on, writes of objects whose names end like this are neither taken nor answered; `None` ends that for
    /// new requests.
    pub fn hold(&self, end_of_name: Option<&str>) {
        *self.shared.held.lock().unwrap() = end_of_name.map(str::to_owned);
    }

    /// What the server noted of an object besides its content.
    pub fn metadata(&self, name: &str) -> String {
        let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let file = format!(".bucket-{}.object-{}.metadata.json", encode(BUCKET), encode(name));
        std::fs::read_to_string(self.home.path().join(file)).unwrap()
    }
}

/// Names of files that hold a part: `.upload_id-<id>.part-<number>`.
fn part_names(home: &TempDir) -> Vec<String> {
    let names = std::fs::read_dir(home.path()).unwrap().map(|item| item.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with(".upload_id-")).collect()
}

/// What a connection needs.
#[derive(Clone)]
struct Answering {
    service: S3Service,
    shared: Arc<Shared>,
    home: Arc<TempDir>,
}

impl Answering {
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let service = service_fn(move |request| self.clone().answer(request));
        // Clients and the proxy break connections on purpose.
        let builder = Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<s3s::Body>, s3s::HttpError> {
        let path = request.uri().path().trim_start_matches(&format!("/{BUCKET}")).to_owned();
        self.shared.requests.lock().unwrap().push(format!("{} {path}", request.method()));
        let held = self.shared.held.lock().unwrap().clone();
        if request.method() == Method::PUT && held.is_some_and(|end| path.ends_with(&end)) {
            return std::future::pending().await;
        }
        let is_listing = request.uri().query().is_some_and(|query| query.starts_with("uploads"));
        let unfinished = self.shared.unfinished.lock().unwrap().clone();
        match unfinished.filter(|_| is_listing && request.method() == Method::GET) {
            Some(name) => Ok(Response::new(s3s::Body::from(self.unfinished(&name)))),
            None => Service::call(&self.service, request).await,
        }
    }

    fn unfinished(&self, name: &str) -> String {
        let ids = part_names(&self.home)
            .into_iter()
            .filter_map(|part| Some(part.strip_prefix(".upload_id-")?.split_once(".part-")?.0.to_owned()));
        let uploads: String = ids
            .map(|id| {
                format!(
                    "<Upload><Key>{name}</Key><UploadId>{id}</UploadId><StorageClass>STANDARD</StorageClass>\
                     <Initiated>2026-01-01T00:00:00.000Z</Initiated></Upload>"
                )
            })
            .collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListMultipartUploadsResult><Bucket>{BUCKET}</Bucket>\
             <IsTruncated>false</IsTruncated>{uploads}</ListMultipartUploadsResult>"
        )
    }
}
