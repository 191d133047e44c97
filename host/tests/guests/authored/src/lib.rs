//! One function for each thing that an author can declare or use.

mod bytes;
mod declared;
mod models;
mod web_client;
