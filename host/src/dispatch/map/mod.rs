//! Maps: many calls of one function, over a window of their inputs. One engine, whatever the backing.
//!
//! `window` decides which input runs next, within the map's bounds and the `budget` of all maps; `engine` drives it; a
//! `backing` has the inputs and takes the outcomes. `memory` is the backing of a map that lives as long as its caller;
//! `durable::map` has the one in the journal.

mod backing;
mod budget;
mod engine;
mod memory;
mod window;

pub(super) use self::backing::{Backing, Ended, Unreadable};
pub(super) use self::budget::{MapMemory, Reservation};
pub(super) use self::engine::{Engine, Runners, State, Target};
pub use self::memory::Map;
pub(super) use self::window::{Input, Window};
