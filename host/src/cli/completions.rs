//! `bireme completions`: completion scripts for shells.

use clap::{Args, Command};
use clap_complete::Shell;

use super::exit::Exit;
use super::output;

/// Print shell completions; see below for where to put them.
#[derive(Args)]
#[command(
    after_help = "Install:\n  bash        bireme completions bash > ~/.local/share/bash-completion/completions/bireme\n  zsh         bireme completions zsh > \"${fpath[1]}/_bireme\"\n  fish        bireme completions fish > ~/.config/fish/completions/bireme.fish\n  powershell  bireme completions powershell >> $PROFILE\n  elvish      bireme completions elvish >> ~/.config/elvish/rc.elv"
)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, mut command: Command) -> Result<(), Exit> {
        output::line(script(self.shell, &mut command).trim_end());
        Ok(())
    }
}

fn script(shell: Shell, command: &mut Command) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, command, "bireme", &mut bytes);
    String::from_utf8(bytes).expect("names and help are UTF-8")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, ValueEnum};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_shell_learns_the_commands() {
        for shell in Shell::value_variants() {
            let script = script(*shell, &mut Cli::command());
            for command in ["inspect", "doctor", "--template"] {
                let word = command.trim_start_matches('-');
                assert!(script.contains(word), "{shell} lacks {command}");
            }
        }
    }

    #[test]
    fn shells_that_are_here_can_read_theirs() {
        for (shell, program) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), script(shell, &mut Cli::command())).unwrap();
            let Ok(read) = std::process::Command::new(program).arg("-n").arg(file.path()).output() else { continue };
            assert!(read.status.success(), "{program}: {}", String::from_utf8_lossy(&read.stderr));
        }
    }
}
