//! The `bireme` binary: everything is in the library's `cli`.

fn main() -> std::process::ExitCode {
    bireme::cli::main()
}
