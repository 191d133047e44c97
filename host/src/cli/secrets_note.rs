//! Note about secrets that a served app declares and the operator did not give.

use super::output;
use crate::sandbox::Program;

/// Prints a line for each function that cannot run for want of a secret.
pub(crate) fn print(program: &Program) {
    for function in program.functions() {
        if let Some(secret) = function.missing_secrets.first() {
            output::note(&format!(
                "`{}::{}` cannot be called: its secret `{secret}` is not given; give it with `--secret {secret}` (from \
                 the environment), `--secret {secret}=VALUE` or `--secrets FILE`",
                program.name(),
                function.name
            ));
        }
    }
}
