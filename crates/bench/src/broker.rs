//! What stands for a message broker: takes everything at once, so that what is measured is a lease and not a broker.
//!
//! It runs on the load's core, in the clear, as a broker on the same machine does. Deliberately absent: users.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// Starts one, which runs as long as the program; gives its address.
pub(crate) async fn start() -> Result<String, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if stream.set_nodelay(true).is_err() {
                    return;
                }
                let service = service_fn(|request: Request<Incoming>| async move {
                    // Heard out, so that the connection is used again.
                    drop(request.into_body().collect().await);
                    let mut answer = Response::new(Empty::<Bytes>::new());
                    *answer.status_mut() = StatusCode::NO_CONTENT;
                    Ok::<_, Infallible>(answer)
                });
                let mut builder = http1::Builder::new();
                drop(builder.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    Ok(format!("http://{address}"))
}
