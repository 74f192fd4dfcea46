//! Bodies that nobody reads to their end: of refused requests, and of requests that need none.
//!
//! The HTTP server would read a chunked one for as long as its client sends. Here the connection ends with the answer instead. Since
//! a client may see the answer only when it has sent its body, a little more of that is read first.
//!
//! The server closes a connection after an answer while the body of the request has not come to its end and somebody still holds
//! it, so the answer holds it.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_core::Stream;
use tokio::time::{Sleep, sleep};

/// The most bytes of a body that are read after its request was answered.
const REST_BYTES_MAX: usize = 256 << 10;
/// How long they are waited for.
const REST_WITHIN: Duration = Duration::from_secs(1);

/// The body of a request, which its handler may leave unread.
pub(super) struct Unread(Rc<RefCell<Body>>);

struct Body {
    payload: Payload,
    /// Whether it came to its end, or broke off.
    ended: bool,
    /// Bytes read after the request was answered.
    taken: usize,
}

/// What the handler gets as the body.
struct Reader(Rc<RefCell<Body>>);

/// The rest of a body, read after its request was answered.
enum Rest {
    Ended,
    TooLong,
}

impl Body {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(Pin::new(&mut self.payload).poll_next(cx));
        self.ended = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }

    /// Reads what is left, until it ends or is too long.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Rest> {
        while self.taken <= REST_BYTES_MAX {
            match ready!(self.poll(cx)) {
                Some(Ok(bytes)) => self.taken += bytes.len(),
                _ => return Poll::Ready(Rest::Ended),
            }
        }
        Poll::Ready(Rest::TooLong)
    }
}

impl Stream for Reader {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll(cx)
    }
}

impl Unread {
    /// Watches the body of this request; `None` if it has none.
    pub(super) fn of(request: &mut ServiceRequest) -> Option<Self> {
        if matches!(request.parts().1, Payload::None) {
            return None;
        }
        let payload = request.take_payload();
        let body = Rc::new(RefCell::new(Body { payload, ended: false, taken: 0 }));
        request.set_payload(Payload::Stream { payload: Box::pin(Reader(Rc::clone(&body))) });
        Some(Self(body))
    }

    /// Makes `answer` the last of its connection, unless the whole body has arrived.
    pub(super) async fn end(self, answer: ServiceResponse) -> ServiceResponse {
        if self.is_here().await {
            return answer;
        }
        answer.map_body(|_, answer| {
            let patience = Box::pin(sleep(REST_WITHIN));
            Last { answer, is_complete: false, body: self.0, patience }.boxed()
        })
    }

    /// Whether the body has ended, or its end is among the bytes that have already arrived.
    async fn is_here(&self) -> bool {
        let body = &self.0;
        let rest = || std::future::poll_fn(move |cx| Poll::Ready(body.borrow_mut().poll_rest(cx)));
        if rest().await.is_pending() {
            // The server takes the rest of a body out of the bytes it has read only after it has called the handler.
            tokio::task::yield_now().await;
        }
        matches!(rest().await, Poll::Ready(Rest::Ended))
    }
}

/// The last answer of a connection. It holds the body of its request.
struct Last {
    answer: BoxBody,
    is_complete: bool,
    body: Rc<RefCell<Body>>,
    patience: Pin<Box<Sleep>>,
}

impl MessageBody for Last {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.answer.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = &mut *self;
        if !this.is_complete {
            match ready!(Pin::new(&mut this.answer).poll_next(cx)) {
                None => this.is_complete = true,
                part => return Poll::Ready(part),
            }
        }
        if this.body.borrow_mut().poll_rest(cx).is_pending() {
            ready!(this.patience.as_mut().poll(cx));
        }
        Poll::Ready(None)
    }
}
