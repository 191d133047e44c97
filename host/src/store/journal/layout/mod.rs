//! Layout of the journal's rows: their keys, and the codec of what is no JSON. Plain functions.

pub(crate) mod chunk;
pub(crate) mod codec;
pub(crate) mod key;
pub(crate) mod lease;
pub(crate) mod quarantine;
pub(crate) mod segment;
