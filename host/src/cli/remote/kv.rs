//! `bireme kv`: the key-value data of an app on a host.

use std::io::{self, Read};
use std::time::Duration;

use base64::Engine;
use clap::{Args, Subcommand};
use serde_json::json;

use super::address::Address;
use super::client::{Answer, Client};
use super::paths;
use crate::api::{BucketList, KeyList, ValueChanged};
use crate::call::Payload;
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::{output, retention};
use crate::codes::Code;
use crate::limits::KV_VALUE_BYTES_MAX;
use crate::logs::printable;
use crate::suggest::did_you_mean;

/// Show and change the key-value data of an app.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme kv ls hello\n  bireme kv get hello counts oars\n  bireme kv set hello counts oars 120"
)]
pub(crate) struct Kv {
    #[command(subcommand)]
    command: KvCommand,
}

#[derive(Subcommand)]
enum KvCommand {
    /// List the buckets of an app, or the keys of one bucket.
    ///
    /// With `--json`, one line per page of at most 1,000.
    #[command(
        after_help = "Examples:\n  bireme kv ls hello\n  bireme kv ls hello users --prefix ada/\n  bireme kv ls hello users --limit 20"
    )]
    Ls {
        /// The name of an app on the host; a stopped one has its data still.
        app: String,
        /// The bucket whose keys are listed.
        bucket: Option<String>,
        /// Only keys that begin with this.
        #[arg(long, requires = "bucket", value_name = "TEXT")]
        prefix: Option<String>,
        /// Only names behind this one: the last one of an earlier list.
        #[arg(long, value_name = "NAME")]
        after: Option<String>,
        /// At most so many names.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
        #[command(flatten)]
        address: Address,
    },
    /// Print a value, byte for byte.
    #[command(
        after_help = "Examples:\n  bireme kv get hello counts oars\n  bireme kv get photos thumbnails argo > argo.jpg"
    )]
    Get {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        address: Address,
    },
    /// Set a value, replacing an earlier one.
    ///
    /// Running functions are not held up: one that has read the old value may still write over this one.
    #[command(
        after_help = "Examples:\n  bireme kv set hello counts oars 120\n  bireme kv set photos thumbnails argo < argo.jpg\n  bireme kv set hello sessions ada token --ttl 30m"
    )]
    Set {
        #[command(flatten)]
        place: Place,
        /// The value; without it, the bytes of standard input.
        #[arg(allow_negative_numbers = true)]
        value: Option<String>,
        /// Let the value expire after this time: 90s, 30m, 12h, 7d.
        #[arg(long, value_name = "TIME", value_parser = retention::parse_duration)]
        ttl: Option<Duration>,
        #[command(flatten)]
        address: Address,
    },
    /// Delete a value.
    #[command(after_help = "Example:\n  bireme kv rm hello counts oars")]
    Rm {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        address: Address,
    },
}

#[derive(Args)]
struct Place {
    /// The name of an app on the host.
    app: String,
    /// The name of a bucket.
    bucket: String,
    /// The key within the bucket.
    key: String,
}

impl Place {
    fn path(&self) -> Result<String, Exit> {
        paths::app(&self.app, "/kv/value")
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        vec![("bucket", self.bucket.clone()), ("key", self.key.clone())]
    }
}

impl Kv {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        match self.command {
            KvCommand::Ls { app, bucket, prefix, after, limit, address } => {
                let list = List { client: Client::new(&address, global)?, app, after, left: limit.unwrap_or(u64::MAX) };
                match bucket {
                    Some(bucket) => list.keys(&bucket, prefix, global),
                    None => list.buckets(global),
                }
            }
            KvCommand::Get { place, address } => get(&place, &Client::new(&address, global)?, global),
            KvCommand::Set { place, value, ttl, address } => {
                let client = Client::new(&address, global)?;
                let mut query = place.query();
                query.extend(ttl.map(|ttl| ("ttl", ttl.as_secs().to_string())));
                let value = value.map_or_else(read_input, |value| Ok(value.into_bytes()))?;
                let answer: Answer<ValueChanged> = client.put(&place.path()?, &query, &value)?;
                let size = output::bytes(value.len() as u64);
                report(
                    &answer,
                    &format!("{} in bucket {} of {} is set: {size}", place.key, place.bucket, place.app),
                    global,
                );
                Ok(())
            }
            KvCommand::Rm { place, address } => {
                let client = Client::new(&address, global)?;
                let answer: Answer<ValueChanged> = client.send("DELETE", &place.path()?, &place.query())?;
                report(
                    &answer,
                    &format!("{} is deleted from bucket {} of {}", place.key, place.bucket, place.app),
                    global,
                );
                Ok(())
            }
        }
    }
}

fn report(answer: &Answer<ValueChanged>, text: &str, global: &Global) {
    if global.json { output::line(&answer.text) } else { output::line(&printable(text)) }
}

fn get(place: &Place, client: &Client, global: &Global) -> Result<(), Exit> {
    let mut value = Vec::new();
    let answer = client.stream(&place.path()?, &place.query())?;
    answer.take(KV_VALUE_BYTES_MAX as u64).read_to_end(&mut value)?;
    if !global.json {
        output::result(&Payload { content_type: "application/octet-stream".to_owned(), data: value.into() });
        return Ok(());
    }
    let (name, text) = match String::from_utf8(value) {
        Ok(text) => ("text", text),
        Err(bytes) => ("base64", base64::engine::general_purpose::STANDARD.encode(bytes.as_bytes())),
    };
    let Place { app, bucket, key } = place;
    output::line(&json!({ "app": app, "bucket": bucket, "key": key, name: text }).to_string());
    Ok(())
}

fn read_input() -> Result<Vec<u8>, Exit> {
    let mut value = Vec::new();
    io::stdin().lock().take(KV_VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut value)?;
    if value.len() > KV_VALUE_BYTES_MAX {
        let message = format!("a value has at most {KV_VALUE_BYTES_MAX} bytes; standard input has more");
        return Err(Exit::new(Code::InputTooLarge, message));
    }
    Ok(value)
}

/// A list of names, page by page.
struct List {
    client: Client,
    app: String,
    after: Option<String>,
    /// Names that may still be printed.
    left: u64,
}

impl List {
    fn buckets(mut self, global: &Global) -> Result<(), Exit> {
        let path = paths::app(&self.app, "/kv/buckets")?;
        let mut is_empty = true;
        while self.left > 0 {
            let query: Vec<_> = self.after.iter().map(|after| ("after", after.clone())).collect();
            let mut answer: Answer<BucketList> = self.client.send("GET", &path, &query)?;
            // This route has no `limit`: an app has few buckets.
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            if answer.document.buckets.len() > left {
                answer.document.buckets.truncate(left);
                answer.document.next = answer.document.buckets.last().cloned();
                answer.text = json!(answer.document).to_string();
            }
            is_empty &= answer.document.buckets.is_empty();
            if !self.page(&answer.text, answer.document.buckets, answer.document.next, global) {
                break;
            }
        }
        if is_empty && !global.json {
            output::note(&format!("{} has no key-value data", self.app));
        }
        Ok(())
    }

    fn keys(mut self, bucket: &str, prefix: Option<String>, global: &Global) -> Result<(), Exit> {
        let path = paths::app(&self.app, "/kv/keys")?;
        let is_part = prefix.is_some() || self.after.is_some();
        let mut is_empty = true;
        while self.left > 0 {
            let mut query = vec![("bucket", bucket.to_owned()), ("limit", self.left.min(1_000).to_string())];
            query.extend(prefix.iter().map(|prefix| ("prefix", prefix.clone())));
            query.extend(self.after.iter().map(|after| ("after", after.clone())));
            let answer: Answer<KeyList> = self.client.send("GET", &path, &query)?;
            let KeyList { keys, next } = answer.document;
            if !is_part && is_empty && keys.is_empty() && next.is_none() {
                return Err(self.unknown_bucket(bucket)?);
            }
            is_empty &= keys.is_empty();
            if !self.page(&answer.text, keys, next, global) {
                break;
            }
        }
        if is_empty && !global.json {
            output::note(&printable(&format!("no such key in bucket {bucket} of {}", self.app)));
        }
        Ok(())
    }

    /// Prints a page; returns whether there is another one.
    fn page(&mut self, text: &str, names: Vec<String>, next: Option<String>, global: &Global) -> bool {
        self.left = self.left.saturating_sub(names.len() as u64);
        if global.json {
            output::line(text);
        } else {
            names.iter().for_each(|name| output::line(&printable(name)));
        }
        self.after = next;
        self.after.is_some()
    }

    /// Error of a bucket without a key, which is the same as none, with the nearest of the others.
    fn unknown_bucket(&self, bucket: &str) -> Result<Exit, Exit> {
        let path = paths::app(&self.app, "/kv/buckets")?;
        let known = self.client.send::<BucketList>("GET", &path, &[])?.document.buckets;
        let exit = Exit::new(Code::UnknownKey, format!("`{}` has no bucket `{bucket}`", self.app));
        Ok(match did_you_mean(bucket, known.iter().map(String::as_str)) {
            Some(near) => exit.hint(near),
            None if known.is_empty() => exit.hint("it has no key-value data"),
            None => exit.hint(format!("`bireme kv ls {}` lists its buckets", self.app)),
        })
    }
}
