//! `bireme ps`: the list of durable calls and maps, and its changes.

use clap::Args;

use super::address::Address;
use super::call_or_map::{is_terminal, whole_id};
use super::client::{Answer, Client};
use super::events::{self, FeedItem};
use super::short_id;
use super::state_text::{self, api_states};
use super::time;
use crate::api::{self, CallList, CallOrMap};
use crate::call::Receipt;
use crate::cli::exit::Exit;
use crate::cli::global::Global;
use crate::cli::{output, table};
use crate::logs::printable;

/// List durable calls and maps, newest first, with state and cost.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  bireme ps\n  bireme ps --app hello --state live\n  bireme ps --function hello::greet --state failed\n  bireme ps --follow --json | jq -c '[.id, .state]'"
)]
pub(crate) struct Ps {
    #[command(flatten)]
    address: Address,
    /// Only those of one app.
    #[arg(long)]
    app: Option<String>,
    /// Only those of one function, as APP::FUNCTION.
    #[arg(long, value_name = "APP::FUNCTION")]
    function: Option<String>,
    /// Only those in one state: live (not ended), waiting, retrying, running, done, failed, cancelled, or open for
    /// maps. With --json, a state of the API: accepted, leased, waiting, dead and those.
    #[arg(long)]
    state: Option<String>,
    /// Only calls, or only maps.
    #[arg(long, value_parser = ["call", "map"])]
    kind: Option<String>,
    /// At most N.
    #[arg(long, short = 'n', default_value = "20", value_name = "N")]
    limit: usize,
    /// Only those older than this call or map; a unique prefix of at least 8 digits is enough.
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// Then print each change of a call or map as it happens, until Ctrl-C; with --json, one entry per line.
    #[arg(long, short, conflicts_with = "before")]
    follow: bool,
}

impl Ps {
    pub(crate) fn run(self, global: &Global) -> Result<(), Exit> {
        let client = Client::new(&self.address, global)?;
        if self.follow {
            return self.follow(&client, global.json);
        }
        if global.json {
            let state = self.state.as_deref();
            output::line(&self.page(&client, state)?.text);
            return Ok(());
        }
        let (calls, next) = self.list(&client)?;
        if calls.is_empty() {
            output::note("no durable call or map; `bireme spawn` and `bireme map --host URL` make some");
            return Ok(());
        }
        output::line(&table::fitted(&rows(&calls), &[1, 2]));
        let mut sum = Receipt::default();
        calls.iter().for_each(|entry| sum.add(receipt(entry)));
        let (cpu, attempts) = (output::micros(sum.cpu_us), output::counted(sum.attempts as usize, "attempt"));
        output::note(&format!("{} listed: cpu {cpu}, {attempts}", calls.len()));
        if let Some(next) = next {
            output::note(&format!("more: bireme ps --before {next}"));
        }
        Ok(())
    }
}

/// The list of `ps`, and its changes.
impl Ps {
    /// Fetches one page, of one state of the API or of all.
    fn page(&self, client: &Client, state: Option<&str>) -> Result<Answer<CallList>, Exit> {
        let mut query = vec![("limit", self.limit.to_string())];
        let before = self.before.as_deref().map(|before| whole_id(client, before)).transpose()?;
        let filters = [
            ("app", self.app.clone()),
            ("function", self.function.clone()),
            ("state", state.map(str::to_owned)),
            ("kind", self.kind.clone()),
            ("before", before),
        ];
        query.extend(filters.into_iter().filter_map(|(name, value)| Some((name, value?))));
        client.send("GET", "/api/v1/calls", &query)
    }

    /// Fetches the newest entries, and the id behind which there are more.
    fn list(&self, client: &Client) -> Result<(Vec<CallOrMap>, Option<String>), Exit> {
        let Some(word) = self.state.as_deref() else {
            let page = self.page(client, None)?.document;
            return Ok((page.calls, page.next.map(|next| next.to_string())));
        };
        let pages = api_states(word).into_iter().map(|state| self.page(client, Some(state)));
        let pages: Result<Vec<_>, Exit> = pages.map(|page| Ok(page?.document)).collect();
        Ok(merge(pages?, self.limit))
    }

    /// Prints the list, oldest first, then changes. Both come over the same filters; a change between the two comes
    /// twice rather than never.
    fn follow(&self, client: &Client, is_json: bool) -> Result<(), Exit> {
        // The feed ends at an app; a function is one of an app's.
        let app = self.app.as_deref().or(self.function.as_deref().and_then(|function| function.split("::").next()));
        let mut query = vec![("kind", "call".to_owned()), ("kind", "map".to_owned())];
        query.extend(app.map(|app| ("app", app.to_owned())));
        let print = |entry: &CallOrMap| match is_json {
            true => output::line(&serde_json::to_string(entry).expect("documents have string keys only")),
            false => output::line(&change_line(entry)),
        };
        let print_list = || -> Result<bool, Exit> {
            let calls =
                if is_json { self.page(client, self.state.as_deref())?.document.calls } else { self.list(client)?.0 };
            calls.iter().rev().for_each(print);
            Ok(true)
        };
        let mut is_first = true;
        events::follow(client, &query, |item| {
            let entry = match item {
                FeedItem::Opened if std::mem::take(&mut is_first) => return print_list(),
                FeedItem::Opened => return Ok(true),
                FeedItem::Event(event) => match *event {
                    api::Event::Call(call) => CallOrMap::Call(call),
                    api::Event::Map(map) => CallOrMap::Map(map),
                    api::Event::Lost(_) => {
                        output::note("changes were missed; this is the list as it is now");
                        return print_list();
                    }
                    _ => return Ok(true),
                },
            };
            if self.matches(&entry, is_json) {
                print(&entry);
            }
            Ok(true)
        })
    }

    /// Returns true if an entry passes the filters of the list.
    fn matches(&self, entry: &CallOrMap, is_json: bool) -> bool {
        let (kind, function, state) = match entry {
            CallOrMap::Call(call) => ("call", &call.function, call.state.to_string()),
            CallOrMap::Map(map) => ("map", &map.function, map.state.to_string()),
        };
        let is_wanted = |wanted: &str| {
            let states = if is_json { vec![wanted] } else { api_states(wanted) };
            states.contains(&state.as_str()) || (wanted == "live" && !is_terminal(entry))
        };
        self.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && self.function.as_deref().is_none_or(|wanted| wanted == function)
            && self.state.as_deref().is_none_or(is_wanted)
    }
}

/// Merges pages of different states into the newest entries of all, and the id behind which there are more.
fn merge(pages: Vec<CallList>, limit: usize) -> (Vec<CallOrMap>, Option<String>) {
    let ends = pages.iter().filter_map(|page| Some(page.next?.to_string()));
    // A page knows nothing of what is behind its end, so entries of others behind that wait for the next list.
    let end = ends.max();
    let mut calls: Vec<CallOrMap> = pages.into_iter().flat_map(|page| page.calls).collect();
    calls.sort_by_key(|entry| std::cmp::Reverse(id(entry)));
    let found = calls.len();
    calls.retain(|entry| end.as_ref().is_none_or(|end| id(entry) >= *end));
    calls.truncate(limit);
    let next = if calls.len() < found { calls.last().map(id).or(end) } else { end };
    (calls, next)
}

fn id(entry: &CallOrMap) -> String {
    match entry {
        CallOrMap::Call(call) => call.id.to_string(),
        CallOrMap::Map(map) => map.id.to_string(),
    }
}

fn receipt(entry: &CallOrMap) -> &Receipt {
    match entry {
        CallOrMap::Call(call) => &call.receipt,
        CallOrMap::Map(map) => &map.receipt,
    }
}

/// Returns the rows of the list, the head first.
fn rows(entries: &[CallOrMap]) -> Vec<Vec<String>> {
    let ids: Vec<String> = entries.iter().map(id).collect();
    let short = short_id::all_short(&ids);
    let mut rows = vec![["ID", "FUNCTION", "STATE", "CPU", "AGE"].map(str::to_owned).to_vec()];
    rows.extend(entries.iter().zip(short).map(|(entry, id)| {
        let [function, state, cpu] = columns(entry);
        let created_ms = match entry {
            CallOrMap::Call(call) => time::newer_or(call.created_ms, call.accepted_ms),
            CallOrMap::Map(map) => map.created_ms,
        };
        vec![id.to_owned(), function, state_text::coloured(entry, state), cpu, time::age(created_ms)]
    }));
    rows
}

/// Returns a changed call or map in one line, in columns that most names fit.
fn change_line(entry: &CallOrMap) -> String {
    let (id, [function, state, cpu]) = (id(entry), columns(entry));
    let state = state_text::coloured(entry, format!("{state:<22}"));
    format!("{}  {function:<24}  {state}  {cpu:>8}", short_id::short(&id))
}

/// Returns function, state and CPU time.
fn columns(entry: &CallOrMap) -> [String; 3] {
    let function = match entry {
        CallOrMap::Call(call) => &call.function,
        CallOrMap::Map(map) => &map.function,
    };
    [printable(function), state_text::short(entry), output::micros(receipt(entry).cpu_us)]
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value, json};

    use super::*;

    fn entry(document: Value) -> CallOrMap {
        serde_json::from_value(document).unwrap()
    }

    fn call(id: &str, state: &str) -> CallOrMap {
        let accepted_ms = crate::clock::unix_ms() - 90_000;
        entry(json!({
            "id": id, "kind": "call", "app": "hello", "function": "hello::add", "state": state,
            "principal": "operator", "priority": "normal", "accepted_ms": accepted_ms, "attempts": 2,
            "receipt": { "attempts": 2, "cpu_us": 7, "wall_us": 2_000 },
        }))
    }

    fn map(id: &str) -> CallOrMap {
        entry(json!({
            "id": id, "kind": "map", "app": "documentation", "function": "documentation::scrape_and_embed",
            "state": "running", "principal": "operator", "priority": "normal",
            "created_ms": crate::clock::unix_ms() - 200 * 86_400_000, "closed": true,
            "counts": {
                "accepted": 204_536, "done": 102_143, "failed": 1_001, "dead": 5, "cancelled": 0, "retried": 3,
            },
            "receipt": { "cpu_us": 5_994_200_000_u64 },
        }))
    }

    const IDS: [&str; 3] = [
        "0199c0de-0001-7000-8000-000000000000",
        "0199c0de-0000-7000-8000-00000000000a",
        "0199c0de-0000-7000-8000-00000000000b",
    ];

    #[test]
    fn the_list_fits_80_columns_and_its_ids_name_one_entry_each() {
        let entries = [map(IDS[0]), call(IDS[0].replace("0001", "0002").as_str(), "waiting")];
        let text = table::within(&rows(&entries), &[1, 2], 80);
        let text = console::strip_ansi_codes(&text).into_owned();
        assert!(text.lines().all(|line| console::measure_text_width(line) <= 80), "{text}");
        expect![[r#"
            ID             FUNCTION    STATE                                  CPU      AGE
            0199c0de-0001  documenta…  running 103,149/204,536, failed 1,006  100 min  200 d
            0199c0de-0002  hello::add  retrying after 2                       7 µs     1 min"#]]
        .assert_eq(&text);
        let rows = rows(&[call(IDS[1], "done"), call(IDS[2], "done")]);
        assert_eq!([&rows[1][0], &rows[2][0]], [IDS[1], IDS[2]]);
    }

    #[test]
    fn lists_of_several_states_are_merged_and_go_on_where_one_of_them_ends() {
        let page = |ids: &[&str], next: Option<&str>| -> CallList {
            let calls: Vec<CallOrMap> = ids.iter().map(|id| call(id, "done")).collect();
            serde_json::from_value(json!({ "calls": calls, "next": next, "live": [], "waiting": 0, "maps": 0 }))
                .unwrap()
        };
        let merged = |pages, limit| {
            let (calls, next) = merge(pages, limit);
            (calls.iter().map(id).collect::<Vec<_>>(), next)
        };
        let [newest, oldest, middle] = IDS.map(str::to_owned);
        let pages = || vec![page(&IDS[..1], None), page(&IDS[1..], None)];
        assert_eq!(merged(pages(), 9), (vec![newest.clone(), middle.clone(), oldest.clone()], None));
        assert_eq!(merged(pages(), 2), (vec![newest.clone(), middle.clone()], Some(middle.clone())));
        // There may be more between the end of the first list and the entry of the second.
        let pages = vec![page(&IDS[..1], Some(IDS[0])), page(&IDS[1..2], None)];
        assert_eq!(merged(pages, 9), (vec![newest.clone()], Some(newest)));
    }
}
