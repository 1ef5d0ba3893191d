//! One request to the app and the answer back.

use std::{sync::Arc, time::Duration};

use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::{body::Incoming, client::conn::TrySendError};

use super::{
    UpstreamError,
    body::{Lease, RequestBody, ResponseBody},
    connection::UpstreamConnection,
    headers,
    route::Upstream,
};

/// A body of at most this size fits into the kernel's buffers, so its client reads the answer without being read from.
const SMALL_BODY: u64 = 32 * 1024;

/// Carries a prepared request to the app.
///
/// A connection that was kept may turn out closed when it is used. The request then goes out once more, on a new one, if
/// that cannot do harm: it was not sent at all, or it has no body and its method is idempotent (RFC 9110 section 9.2.2).
pub(super) async fn run(
    upstream: &Upstream,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, UpstreamError> {
    if let Some(connection) = upstream.pool.take() {
        let spare = spare(&request);
        match attempt(upstream, connection, request).await? {
            Ok(answer) => return Ok(answer),
            Err(mut failure) => {
                let unsent = failure.take_message();
                // An answer that cannot be parsed is an answer.
                let spare = spare.filter(|_| !failure.error().is_parse());
                match unsent.or(spare) {
                    Some(again) => request = again,
                    None => return Err(UpstreamError::of_exchange(failure.into_error())),
                }
            }
        }
    }
    // Boxed: most requests don't come this way, and should not make room for it.
    Box::pin(run_on_new_connection(upstream, request)).await
}

async fn run_on_new_connection(
    upstream: &Upstream,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, UpstreamError> {
    let stream = upstream.pool.connect().await?;
    let connection = UpstreamConnection::open(stream).await.map_err(UpstreamError::of_exchange)?;
    attempt(upstream, connection, request)
        .await?
        .map_err(|failure| UpstreamError::of_exchange(failure.into_error()))
}

type Attempt = Result<Response<ResponseBody>, TrySendError<Request<RequestBody>>>;

/// The outer error is final; after the inner one the request may perhaps be sent again.
async fn attempt(
    upstream: &Upstream,
    mut connection: Box<UpstreamConnection>,
    request: Request<RequestBody>,
) -> Result<Attempt, UpstreamError> {
    let limit = upstream.options.answer_timeout;
    // While a client does not read its answer, nobody polls the answer's body, and the connection would not take in
    // the rest of the request's: a long one needs a task of its own.
    let is_long = request.body().size_hint().upper().is_none_or(|length| length > SMALL_BODY);
    let outcome = if is_long {
        let mut sender = connection.into_task();
        within(limit, sender.try_send_request(request)).await?.map(|answer| (answer, None))
    } else {
        within(limit, connection.send(request)).await?.map(|answer| {
            let home = Arc::clone(&upstream.pool);
            (answer, Some(Lease { connection, home }))
        })
    };
    match outcome {
        Ok((answer, lease)) => receive(answer, lease).map(Ok),
        Err(failure) => Ok(Err(failure)),
    }
}

/// The app's answer as the client gets it.
pub(super) fn receive(
    answer: Response<Incoming>,
    lease: Option<Lease>,
) -> Result<Response<ResponseBody>, UpstreamError> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamError::BadAnswer { source: "it changes protocols though nobody asked".into() });
    }
    let mut answer = answer.map(|body| ResponseBody::new(body, lease));
    *answer.version_mut() = Version::HTTP_11;
    let status = answer.status();
    headers::prepare_response(answer.headers_mut(), status);
    Ok(answer)
}

pub(super) async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = T>,
) -> Result<T, UpstreamError> {
    match limit {
        None => Ok(work.await),
        Some(after) => tokio::time::timeout(after, work).await.map_err(|_| UpstreamError::TimedOut { after }),
    }
}

/// A second copy of a request that may be sent twice.
fn spare(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !request.method().is_idempotent() {
        return None;
    }
    let body = request.body().another_empty()?;
    let mut spare = Request::new(body);
    *spare.method_mut() = request.method().clone();
    *spare.uri_mut() = request.uri().clone();
    *spare.headers_mut() = request.headers().clone();
    Some(spare)
}
