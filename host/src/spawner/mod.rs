//! Start of this binary's other processes: workers, readers of models' files, the probe of devices, the compiler.
//!
//! A host that is confined starts no program. The spawner, a small process that it began with, does so in its place. It
//! takes a [`Role`] and one descriptor, never a path or an argument: a host that is taken over gets another worker out
//! of it, and no more. Commands that are not confined start processes themselves, by the same [`Spawner`].
//!
//! ```text
//! host ──control──► spawner (`service`): role, the child's end of its socket, the socket of its life
//!   │                  └─ child: this binary with the words and the environment of its role
//!   └──────life────────┘    started with a process number, ended with a status; a hang-up kills
//! ```
//!
//! Invariants: a child ends when its [`Child`] is dropped, and all end with the host; no child gets a variable of the
//! environment beyond those in `program`.
//!
//! Limits: 32 children at a time.

mod child;
mod client;
mod message;
mod program;
mod role;
mod service;

pub(crate) use self::child::Child;
pub use self::client::Spawner;
pub use self::program::Program;
pub(crate) use self::role::Role;
pub(crate) use self::service::run;
