fn main() -> std::process::ExitCode {
    kmsfs::main()
}
