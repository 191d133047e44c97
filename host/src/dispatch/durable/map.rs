//! Durable maps, in the journal: the map engine's backing there, the tasks of a map that has not ended, and the
//! requests on maps.

mod backing;
mod chunks;
mod live;
mod requests;

pub(crate) use self::requests::Maps;
