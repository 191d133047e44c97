//! Maps: many calls of one function, over a window of their inputs. One engine, whatever the backing.
//!
//! `window` decides which input runs next, within the bounds of the map and the budget of all; `engine` and `runners`
//! drive it; a backing has the inputs and takes the outcomes. `memory` is the backing of a map that lives as long as
//! its caller; `durable::map` has the one in the journal.

mod engine;
mod memory;
mod runners;
mod window;

pub(super) use self::engine::{Backing, Ended, Engine, State, Target, Unreadable};
pub(crate) use self::memory::{Map, MapProgress};
pub(super) use self::runners::Runners;
pub(super) use self::window::{Input, Window};
