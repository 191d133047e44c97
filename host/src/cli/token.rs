//! `bireme token`: the token that programs send to the control API.

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::global::Global;
use super::output;
use crate::codes::Code;

/// Print the token that the control API of this data directory's host asks for. Commands read it by themselves;
/// programs send it as `authorization: Bearer TOKEN`. BIREME_TOKEN takes the place of the file.
#[derive(Args)]
#[command(
    after_help = "Example:\n  curl -H \"authorization: Bearer $(bireme token)\" http://127.0.0.1:8080/api/v1/apps"
)]
pub(crate) struct Token {}

impl Token {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let Some(token) = global.token()? else {
            let path = global.directories()?.token;
            let exit = Exit::new(Code::NoHost, format!("no host has made a token in `{}` yet", path.display()));
            return Err(exit.hint("start one with `bireme serve`, or name its data directory with --data DIR"));
        };
        if global.json {
            output::line(&json!({ "token": token.expose() }).to_string());
        } else {
            output::line(token.expose());
        }
        Ok(())
    }
}
