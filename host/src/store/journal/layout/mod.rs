//! Layout of the journal's rows: their keys, and the codec of what is no JSON. Plain functions.

pub mod chunk;
pub mod codec;
pub mod key;
pub mod lease;
pub mod quarantine;
pub mod segment;
