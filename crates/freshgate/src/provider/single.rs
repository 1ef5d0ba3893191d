//! One run of a piece of work for all who want its result at the same time.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::tasks::Tasks;

/// Runs work in a task of its own; whoever comes while it runs waits for the same result, and who leaves cancels nobody.
pub(crate) struct SingleRun<T> {
    running: Mutex<Option<watch::Receiver<Option<T>>>>,
}

impl<T> Default for SingleRun<T> {
    fn default() -> Self {
        Self { running: Mutex::new(None) }
    }
}

impl<T: Clone + Send + Sync + 'static> SingleRun<T> {
    /// Starts `work`, unless a run is under way, and waits. `None` if the run panicked.
    pub(crate) async fn join(
        &self,
        runner: &Arc<dyn Tasks>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let mut result = self.start(runner, work);
        let settled = result.wait_for(Option::is_some).await.ok()?;
        settled.clone()
    }

    /// Starts `work`, unless a run is under way. Yields where the result will be, for who waits.
    pub(crate) fn start(
        &self,
        runner: &Arc<dyn Tasks>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> watch::Receiver<Option<T>> {
        let mut running = self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match running.as_ref() {
            // A sender that is gone has sent its result, or panicked: the run is over.
            Some(result) if result.has_changed().is_ok() && result.borrow().is_none() => result.clone(),
            _ => {
                let (sender, result) = watch::channel(None);
                runner.start(Box::pin(async move {
                    sender.send_replace(Some(work.await));
                }));
                running.insert(result).clone()
            }
        }
    }
}

#[cfg(test)]
impl<T> SingleRun<T> {
    /// Whether a run is under way.
    pub(crate) fn is_running(&self) -> bool {
        let running = self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        running.as_ref().is_some_and(|result| result.has_changed().is_ok() && result.borrow().is_none())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::tasks::TokioTasks;

    #[tokio::test]
    async fn all_who_come_meanwhile_share_one_run() {
        let single = Arc::new(SingleRun::default());
        let runs = Arc::new(AtomicU32::new(0));
        let (go, _) = tokio::sync::broadcast::channel::<()>(1);
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                let (single, runs, mut go) = (single.clone(), runs.clone(), go.subscribe());
                tokio::spawn(async move {
                    single
                        .join(&TokioTasks::shared(), async move {
                            let _ = go.recv().await;
                            runs.fetch_add(1, Ordering::SeqCst) + 1
                        })
                        .await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        waiters[0].abort();
        go.send(()).unwrap();
        for waiter in waiters.into_iter().skip(1) {
            assert_eq!(waiter.await.unwrap(), Some(1));
        }
        assert_eq!(single.join(&TokioTasks::shared(), async { 7 }).await, Some(7), "a later call runs anew");
    }

    #[tokio::test]
    async fn a_panic_answers_those_who_wait() {
        let single = SingleRun::<u32>::default();
        assert_eq!(single.join(&TokioTasks::shared(), async { panic!("as the test wants") }).await, None);
        assert_eq!(single.join(&TokioTasks::shared(), async { 3 }).await, Some(3));
    }
}
