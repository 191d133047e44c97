//! Call of a function on a host, as typed: host, function and input. `--host` may stand on either side of the target.

use super::address::Address;
use super::client::Client;
use crate::app::metadata::Metadata;
use crate::call::Payload;
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::input::{self, InputFile, TrailingFlags};
use crate::cli::{function_lookup, target};

/// Option that names the host.
const HOST: &str = "host";

/// Function and input of a call, and the host that has the function.
pub(crate) struct CallRequest {
    pub client: Client,
    pub app: String,
    pub name: String,
    pub input: Payload,
    pub trailing: TrailingFlags,
}

impl CallRequest {
    /// Reads `target` and the words behind it; `own` are the options of the command that may be among them.
    pub(crate) fn open(
        front: &Address,
        global: &Global,
        target: &str,
        file: &InputFile,
        words: &[String],
        own: &[&str],
    ) -> Result<Self, Exit> {
        let (app, name) = target::split(target)?;
        let own = [own, &[HOST]].concat();
        let (client, metadata) = match host_among(words) {
            Some(host) => behind(front, global, host, app, name)?,
            None => described(front, global, app)?,
        };
        let function = function_lookup::find(&metadata, name, Some(client.base()))?;
        let (input, trailing) = input::read(function, file, words, &own)?;
        Ok(Self { client, app: app.to_owned(), name: name.to_owned(), input, trailing })
    }
}

/// Returns the host of a call with `--host` behind its target, which is a parameter if the function has one of that
/// name. The host in front of the target is asked first: the value of a parameter is no address to connect to.
fn behind(front: &Address, global: &Global, host: &str, app: &str, name: &str) -> Result<(Client, Metadata), Exit> {
    if let Ok((client, metadata)) = described(front, global, app)
        && has_parameter(&metadata, name)
    {
        return Ok((client, metadata));
    }
    let (client, metadata) = described(&Address { host: host.to_owned() }, global, app)?;
    if has_parameter(&metadata, name) {
        let exit =
            Exit::usage(format!("`--{HOST}` is a parameter of `{name}`, so it does not name the host of the call"));
        return Err(exit.hint(format!("give the address in front: --{HOST} {host} {app}::{name} …")));
    }
    Ok((client, metadata))
}

fn described(address: &Address, global: &Global, app: &str) -> Result<(Client, Metadata), Exit> {
    let client = Client::new(address, global)?;
    let metadata = client.metadata(app)?;
    Ok((client, metadata))
}

fn has_parameter(metadata: &Metadata, name: &str) -> bool {
    metadata.function(name).is_some_and(|function| input::has_parameter(function, HOST))
}

/// Returns the last value of `--host` among words.
fn host_among(words: &[String]) -> Option<&str> {
    let inline = |word: &'_ String| word.starts_with("--host=");
    let place = words.iter().rposition(|word| word == "--host" || inline(word))?;
    words[place].strip_prefix("--host=").or_else(|| words.get(place + 1).map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_host_among_the_words_counts() {
        let check = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            host_among(&words).map(str::to_owned)
        };
        assert_eq!(check(&["--line", "x", "--host", "a:1"]).as_deref(), Some("a:1"));
        assert_eq!(check(&["--host", "a:1", "--host=b:2", "--line", "x"]).as_deref(), Some("b:2"));
        assert_eq!(check(&["{\"host\": 1}", "--hosts", "x"]), None);
        assert_eq!(check(&["--host"]), None);
    }
}
