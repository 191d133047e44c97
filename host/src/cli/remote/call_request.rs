//! Call of a function on a host, as typed: host, function and input. `--host` and `--data` may stand on either side of
//! the target.

use super::address::Address;
use super::client::Client;
use crate::app::metadata::Metadata;
use crate::call::Payload;
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::input::{self, InputFile, TrailingFlags};
use crate::cli::{function_lookup, target};

/// Options that name the host, and the data directory with its socket and token.
const HOST: &str = "host";
const DATA: &str = "data";

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
        let (client, metadata) = asked(front, global, words, app, name)?;
        let function = function_lookup::find(&metadata, name, Some(client.base()))?;
        let (input, trailing) = input::read(function, file, words, &own)?;
        Ok(Self { client, app: app.to_owned(), name: name.to_owned(), input, trailing })
    }
}

/// Returns the host of a call, by the options behind its target too: each is a parameter if the function has one of
/// that name. The host in front of the target is asked first: the value of a parameter is no place to connect to.
fn asked(
    front: &Address,
    global: &Global,
    words: &[String],
    app: &str,
    name: &str,
) -> Result<(Client, Metadata), Exit> {
    let mut options = [HOST, DATA].map(|option| (option, last_among(words, option)));
    if options.iter().all(|(_, value)| value.is_none()) {
        return described(front, global, app);
    }
    if let Ok((client, metadata)) = described(front, global, app) {
        for (option, value) in &mut options {
            value.take_if(|_| has_parameter(&metadata, name, option));
        }
        if options.iter().all(|(_, value)| value.is_none()) {
            return Ok((client, metadata));
        }
    }
    let [(_, host), (_, data)] = options;
    let address = host.map_or_else(|| front.clone(), |host| Address { host: Some(host.to_owned()) });
    let (client, metadata) = described(&address, &global.with(data, false, false), app)?;
    for (option, value) in options {
        if let Some(value) = value.filter(|_| has_parameter(&metadata, name, option)) {
            let (what, value_is) = if option == HOST { ("host", "address") } else { ("data directory", "directory") };
            let exit = Exit::usage(format!(
                "`--{option}` is a parameter of `{name}`, so it does not name the {what} of the call"
            ));
            return Err(exit.hint(format!("give the {value_is} in front: --{option} {value} {app}::{name} …")));
        }
    }
    Ok((client, metadata))
}

fn described(address: &Address, global: &Global, app: &str) -> Result<(Client, Metadata), Exit> {
    let client = Client::new(address, global)?;
    let metadata = client.metadata(app)?;
    Ok((client, metadata))
}

fn has_parameter(metadata: &Metadata, name: &str, option: &str) -> bool {
    metadata.function(name).is_some_and(|function| input::has_parameter(function, option))
}

/// Returns the last value of an option among words.
fn last_among<'a>(words: &'a [String], option: &str) -> Option<&'a str> {
    let (word, inline) = (format!("--{option}"), format!("--{option}="));
    let place = words.iter().rposition(|given| *given == word || given.starts_with(&inline))?;
    words[place].strip_prefix(&inline).or_else(|| words.get(place + 1).map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_host_among_the_words_counts() {
        let check = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            last_among(&words, "host").map(str::to_owned)
        };
        assert_eq!(check(&["--line", "x", "--host", "a:1"]).as_deref(), Some("a:1"));
        assert_eq!(check(&["--host", "a:1", "--host=b:2", "--line", "x"]).as_deref(), Some("b:2"));
        assert_eq!(check(&["{\"host\": 1}", "--hosts", "x"]), None);
        assert_eq!(check(&["--host"]), None);
    }
}
