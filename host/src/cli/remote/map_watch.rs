//! Progress of a map on a host, fetched beside its outcomes: those come in the order of the inputs, where one that is
//! slow holds back many that are done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::client::Client;
use super::paths;
use crate::api::Map;
use crate::cli::exit::Exit;
use crate::cli::progress::{InputCounts, MapBar, REFRESH};

/// Looks at a map until it is dropped.
pub(crate) struct MapWatch {
    stop: Arc<AtomicBool>,
}

impl MapWatch {
    /// Starts to show a map's counts in `bar`, if anyone sees it.
    pub(crate) fn start(client: &Client, id: &str, bar: &MapBar) -> Result<Self, Exit> {
        let stop = Arc::new(AtomicBool::new(false));
        if !bar.is_hidden() {
            let (client, path, bar, is_over) = (client.clone(), paths::map(id, "")?, bar.clone(), stop.clone());
            // A request of its own may outlast the map: the bar ignores its answer then.
            std::thread::Builder::new().name("progress".into()).spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    // A host that does not answer is reported by the reader of the outcomes.
                    if let Ok(answer) = client.send::<Map>("GET", &path, &[]) {
                        show(&answer.document, &bar);
                    }
                    std::thread::sleep(REFRESH);
                }
            })?;
        }
        Ok(Self { stop })
    }
}

impl Drop for MapWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn show(map: &Map, bar: &MapBar) {
    let counts = &map.counts;
    if map.closed {
        bar.set_total(counts.accepted);
    }
    bar.set(InputCounts {
        done: counts.done,
        failed: counts.failed + counts.dead + counts.cancelled,
        retried: counts.retried,
    });
}
