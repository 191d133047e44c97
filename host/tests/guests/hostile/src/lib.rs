//! Functions that break every rule, one each, and a few that keep them, to compare.

mod batched;
mod inputs;
mod outside;
mod resources;
mod web;
