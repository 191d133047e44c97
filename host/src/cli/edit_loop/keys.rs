//! Keys of the edit loop: a letter and Enter.

use tokio::sync::mpsc;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Rebuild,
    /// Repeats the last call, or calls `FUNCTION INPUT`.
    Call(String),
    Test,
    /// Opens the app in a browser.
    Open,
    Quit,
}

/// Keys in the order typed.
pub(crate) struct Keys(mpsc::Receiver<Key>);

/// Reads standard input on a thread: a blocking read cannot be cancelled.
pub(crate) fn read() -> Keys {
    let (keys, receiver) = mpsc::channel(1);
    let reading = std::thread::Builder::new().name("keys".into()).spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if let Some(key) = parse(&line)
                && keys.blocking_send(key).is_err()
            {
                return;
            }
        }
    });
    if let Err(error) = reading {
        tracing::warn!(%error, "no keys are read");
    }
    Keys(receiver)
}

fn parse(line: &str) -> Option<Key> {
    let line = line.trim();
    match line {
        "r" => Some(Key::Rebuild),
        "t" => Some(Key::Test),
        "o" => Some(Key::Open),
        "q" => Some(Key::Quit),
        "c" => Some(Key::Call(String::new())),
        _ => line.strip_prefix("c ").map(|input| Key::Call(input.trim().to_owned())),
    }
}

impl Keys {
    /// Waits for the next key; never returns once standard input has ended (no terminal).
    pub(crate) async fn next(&mut self) -> Key {
        match self.0.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_a_command() {
        assert_eq!(
            ["r", " q ", "t", "o", "x", "", "call"].map(parse),
            [Some(Key::Rebuild), Some(Key::Quit), Some(Key::Test), Some(Key::Open), None, None, None]
        );
        let call = |input: &str| Some(Key::Call(input.to_owned()));
        assert_eq!(["c", "c  words {} "].map(parse), [call(""), call("words {}")]);
    }
}
