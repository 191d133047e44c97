//! What is typed while the loop runs: a letter and Enter.

use tokio::sync::mpsc;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Rebuild,
    Test,
    Quit,
}

/// Commands as they come.
pub struct Keys(mpsc::Receiver<Key>);

/// Starts to read standard input, on a thread: reading it cannot be cancelled.
pub fn read() -> Keys {
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
    match line.trim() {
        "r" => Some(Key::Rebuild),
        "t" => Some(Key::Test),
        "q" => Some(Key::Quit),
        _ => None,
    }
}

impl Keys {
    /// Waits for the next command; for ever once standard input has ended, as it has where there is no terminal.
    pub async fn next(&mut self) -> Key {
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
            ["r", " q ", "t", "x", ""].map(parse),
            [Some(Key::Rebuild), Some(Key::Quit), Some(Key::Test), None, None]
        );
    }
}
