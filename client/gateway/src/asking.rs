//! A request under way, as a future that cancels when it is dropped.

use crate::pool::{Failure, Pool, Request, Ticket};
use muster_proto::socket::Frame;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// Waits for a reply. Dropped before it is there, which is what happens when the client of the
/// gateway hangs up, it cancels the call.
pub(crate) struct Asking {
    reply: oneshot::Receiver<Result<Frame, Failure>>,
    ticket: Option<Ticket>,
}

impl Asking {
    pub(crate) fn start(pool: &dyn Pool, request: Request) -> Result<Self, Failure> {
        let (sender, reply) = oneshot::channel();
        let done = Box::new(move |result| {
            // The receiver is gone when the client hung up.
            let _ = sender.send(result);
        });
        let ticket = pool.submit(request, done)?;
        Ok(Asking {
            reply,
            ticket: Some(ticket),
        })
    }
}

impl Future for Asking {
    type Output = Result<Frame, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.reply).poll(context).map(|result| {
            self.ticket = None;
            result.unwrap_or_else(|_| Err(Failure::Unavailable("the client is closed".into())))
        })
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(cancel) = self.ticket.take() {
            cancel();
        }
    }
}
