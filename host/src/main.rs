//! The `bireme` binary: runs the library's `cli`.

fn main() -> std::process::ExitCode {
    bireme::cli::main()
}
