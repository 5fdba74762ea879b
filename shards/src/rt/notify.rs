//! Wake-ups between tasks of one executor.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Remembers one notification and wakes one waiting task. For a single waiter.
#[derive(Default)]
pub struct Notify {
    notified: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify {
    /// Wakes the waiter, now or when it next waits.
    pub fn notify(&self) {
        self.notified.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits for a notification since the last wait.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.notified.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Tasks that wait until a condition holds; whoever may have made it true wakes them all to look.
#[derive(Default)]
pub struct WaitList {
    wakers: RefCell<Vec<Waker>>,
}

impl WaitList {
    /// Waits until `condition` holds. It is looked at at once, and after each [`WaitList::wake_all`].
    pub async fn wait_until(&self, condition: impl Fn() -> bool) {
        poll_fn(|context| {
            if condition() {
                return Poll::Ready(());
            }
            let mut wakers = self.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Makes all waiting tasks look at their conditions.
    pub fn wake_all(&self) {
        for waker in self.wakers.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn a_notification_before_the_wait_is_not_lost() {
        let notify = Notify::default();
        assert!(notify.wait().now_or_never().is_none());
        notify.notify();
        notify.notify();
        assert!(notify.wait().now_or_never().is_some());
        assert!(notify.wait().now_or_never().is_none());
    }

    #[test]
    fn all_waiters_look_again() {
        let (list, open) = (WaitList::default(), Cell::new(false));
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(list.wait_until(|| open.get()))).collect();
        assert!(waits.iter_mut().all(|wait| wait.as_mut().now_or_never().is_none()));
        open.set(true);
        list.wake_all();
        assert!(waits.iter_mut().all(|wait| wait.as_mut().now_or_never().is_some()));
    }
}
