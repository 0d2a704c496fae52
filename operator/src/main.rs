//! The operator; see the library.

fn main() -> std::process::ExitCode {
    sluice_operator::cli::main()
}
