//! One function for each thing that an author can declare or use.

mod bytes;
mod counted;
mod declared;
mod kept;
mod models;
mod web_client;
