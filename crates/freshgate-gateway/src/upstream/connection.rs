//! One connection to the app.

use std::{
    future::{self, Future},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::task::unconstrained;

use super::{app_socket::AppSocket, body::RequestBody, transport::AppTransport};

/// How much of an answer's head is read before it is given up; also the most that is read of a body at once.
const ANSWER_HEAD: usize = 64 * 1024;

/// A connection that no task runs: it moves when the request or the body that uses it is polled, on the task of the
/// client's connection. That saves two switches between tasks per request, and a client that leaves drops the
/// connection with it.
pub(super) struct UpstreamConnection {
    sender: http1::SendRequest<RequestBody>,
    driver: Option<Driver>,
}

struct Driver {
    http: http1::Connection<TokioIo<AppSocket>, RequestBody>,
    is_over: bool,
}

impl UpstreamConnection {
    pub(super) async fn open(stream: AppTransport) -> Result<Box<Self>, hyper::Error> {
        let (sender, http) = http1::Builder::new()
            .max_header_size(ANSWER_HEAD)
            .max_buf_size(ANSWER_HEAD)
            .handshake(TokioIo::new(AppSocket::new(stream)))
            .await?;
        Ok(Box::new(Self { sender, driver: Some(Driver { http, is_over: false }) }))
    }

    /// Sends a request and waits for the head of the answer. A request that was not sent at all comes back with the
    /// error.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        let driver = &mut self.driver;
        future::poll_fn(|context| {
            // As in `ResponseBody`: the answer comes out of the driver, so only the driver needs the waker. Without
            // tokio's budget, which would tell that waker to come again.
            let aside = &mut Context::from_waker(Waker::noop());
            let is_over = run(driver, context);
            match answer.as_mut().poll(aside) {
                Poll::Pending if is_over => {
                    // It ended without a look at the request. Once it is gone, hyper hands the request back.
                    *driver = None;
                    answer.as_mut().poll(aside)
                }
                outcome => outcome,
            }
        })
        .await
    }

    /// Moves bytes, as far as there are any and room for them.
    pub(super) fn run(&mut self, context: &mut Context<'_>) {
        if run(&mut self.driver, context) {
            self.driver = None;
        }
    }

    /// Whether another request can be sent, as far as is known without a look at the socket.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether another request can be sent. Nobody is woken by this connection from here on.
    pub(super) fn is_idle(&mut self) -> bool {
        let is_over =
            pin!(unconstrained(future::poll_fn(|context| Poll::Ready(run(&mut self.driver, context)))))
                .poll(&mut Context::from_waker(Waker::noop()));
        is_over == Poll::Ready(false) && self.sender.is_ready()
    }

    /// Lets a task run the connection until the exchange at hand is over.
    pub(super) fn into_task(self: Box<Self>) -> http1::SendRequest<RequestBody> {
        if let Some(driver) = self.driver {
            tokio::spawn(async move {
                if let Err(error) = driver.http.await {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "a connection to the app failed"
                    );
                }
            });
        }
        self.sender
    }

    /// The socket after the app agreed to change protocols, and what it has sent in the new one.
    pub(super) async fn into_upgraded(mut self: Box<Self>) -> Option<(AppTransport, Bytes)> {
        future::poll_fn(
            |context| if run(&mut self.driver, context) { Poll::Ready(()) } else { Poll::Pending },
        )
        .await;
        let http1::Parts { io, read_buf, .. } = self.driver?.http.into_parts();
        Some((io.into_inner().into_transport(), read_buf))
    }
}

/// Runs the driver; yields whether it is over. hyper reports failures to whoever waits for the answer or the body.
fn run(driver: &mut Option<Driver>, context: &mut Context<'_>) -> bool {
    let Some(driver) = driver else { return true };
    // Not polled again after its end: it would shut down a socket that was upgraded.
    driver.is_over = driver.is_over || Pin::new(&mut driver.http).poll(context).is_ready();
    driver.is_over
}
