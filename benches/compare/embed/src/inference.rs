//! The host's own files, without the host, as in `worker`.
#![expect(dead_code, unused_imports, reason = "the host calls more of it than this does")]

#[path = "../../../../host/src/tokenizer/mod.rs"]
pub mod tokenizer;
