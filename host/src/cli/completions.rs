//! `bireme completions`: what a shell needs to complete this command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::exit::Exit;
use super::{Cli, output};

/// Print a shell's completions, for the place where it looks for them.
#[derive(Args)]
#[command(
    after_help = "Install:\n  bash        bireme completions bash > ~/.local/share/bash-completion/completions/bireme\n  zsh         bireme completions zsh > \"${fpath[1]}/_bireme\"\n  fish        bireme completions fish > ~/.config/fish/completions/bireme.fish\n  powershell  bireme completions powershell >> $PROFILE\n  elvish      bireme completions elvish >> ~/.config/elvish/rc.elv"
)]
pub struct Completions {
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Result<(), Exit> {
        output::line(script(self.shell).trim_end());
        Ok(())
    }
}

fn script(shell: Shell) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bireme", &mut bytes);
    String::from_utf8(bytes).expect("names and help are UTF-8")
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_learns_the_commands() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
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
            std::fs::write(file.path(), script(shell)).unwrap();
            let Ok(read) = std::process::Command::new(program).arg("-n").arg(file.path()).output() else { continue };
            assert!(read.status.success(), "{program}: {}", String::from_utf8_lossy(&read.stderr));
        }
    }
}
